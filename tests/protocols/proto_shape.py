"""What a peer relies on in the proto, line by line; `python -m tests.protocols.proto_shape` takes down additions."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
FILE = "streamer/v2/streamer.proto"
SNAPSHOT = PROTO / "streamer.v2.snapshot.json"


def compiled(folder: Path = PROTO, name: str = FILE) -> bytes:
    """The FileDescriptorSet of the proto as it stands, with its comments."""
    with tempfile.TemporaryDirectory() as out:
        well_known = resources.files("grpc_tools") / "_proto"
        path = Path(out) / "set.binpb"
        args = [
            "protoc",
            f"-I{folder}",
            f"-I{well_known}",
            f"--descriptor_set_out={path}",
            "--include_source_info",
            name,
        ]
        assert protoc.main(args) == 0
        return path.read_bytes()


def shape(descriptors: bytes) -> dict[str, str]:
    """Each name that travels or is compiled against, and what must not change about it."""
    lines: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(descriptors).file:
        lines |= {enum: fact for each in file.enum_type for enum, fact in _enum(file.package, each)}
        lines |= {name: fact for each in file.message_type for name, fact in _message(file.package, each)}
        for service in file.service:
            for call in service.method:
                ways = [
                    f"{'stream ' if streams else ''}{type_.lstrip('.')}"
                    for streams, type_ in (
                        (call.client_streaming, call.input_type),
                        (call.server_streaming, call.output_type),
                    )
                ]
                lines[f"{file.package}.{service.name}/{call.name}"] = " -> ".join(ways)
    return lines


def _enum(scope: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{scope}.{enum.name}.{value.name}", str(value.number)
    for gap in enum.reserved_range:
        for number in range(gap.start, gap.end + 1):
            yield f"{scope}.{enum.name} {number}", "reserved"


def _message(scope: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    name = f"{scope}.{message.name}"
    yield name, "message"
    for field in message.field:
        type_ = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
        label = "optional" if field.proto3_optional else {"optional": "singular"}.get(label, label)
        inside = field.HasField("oneof_index") and not field.proto3_optional
        oneof = f" in {message.oneof_decl[field.oneof_index].name}" if inside else ""
        yield f"{name}.{field.name}", f"{field.number} {label} {type_}{oneof}"
    for nested in message.nested_type:
        yield from _message(name, nested)
    for enum in message.enum_type:
        yield from _enum(name, enum)


def broken(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What a peer of the state before would trip over."""
    return [
        f"{name}: was {fact}, is {after.get(name, 'gone')}" for name, fact in before.items() if after.get(name) != fact
    ]


def known() -> dict[str, str]:
    """The shape that was released."""
    lines: dict[str, str] = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    return lines


def main() -> None:
    """Take down what is new; refuse what breaks."""
    now = shape(compiled())
    if problems := broken(known(), now):
        sys.exit("a breaking change; make it streamer.v3:\n  " + "\n  ".join(problems))
    SNAPSHOT.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
