"""The proto keeps its word: what was released does not change, the generated code is its own, its style is buf's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from tests.protocols.proto_shape import FILE, PROTO, broken, compiled, known, shape

TEXT = (PROTO / FILE).read_text()
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"([A-Z][a-z0-9]*)+")


def file() -> FileDescriptorProto:
    (only,) = FileDescriptorSet.FromString(compiled()).file
    return only


def changed(tmp_path: Path, old: str, new: str) -> list[str]:
    """What breaks when the proto says `new` in place of `old`."""
    assert old in TEXT
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text(TEXT.replace(old, new, 1))
    return broken(known(), shape(compiled(tmp_path)))


def test_nothing_released_has_changed_and_the_snapshot_knows_all() -> None:
    now = shape(compiled())
    assert broken(known(), now) == []
    assert now == known(), "`make proto` takes down what is new"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bytes audio = 2;", "bytes audio = 60;"),
        ("bytes audio = 2;", "string audio = 2;"),
        ("bytes audio = 2;", "bytes sound = 2;"),
        ("uint32 sample_rate = 2;", "repeated uint32 sample_rate = 2;"),
        ("optional uint32 chunk_ms = 5;", "uint32 chunk_ms = 5;"),
        ("bool keep_open = 1;", ""),
        ("ENCODING_ALAW = 9;", "ENCODING_ALAW = 30;"),
        ("reserved 4;", "FINISH_REASON_FAILED = 4;"),
        ("returns (stream ServerMessage)", "returns (ServerMessage)"),
        ("package streamer.v2;", "package streamer.v3;"),
    ],
)
def test_a_breaking_change_is_seen(tmp_path: Path, old: str, new: str) -> None:
    assert changed(tmp_path, old, new)


def test_an_addition_breaks_nothing(tmp_path: Path) -> None:
    assert changed(tmp_path, "bool keep_open = 1;", "bool keep_open = 1; bool now = 2;") == []


def test_the_generated_code_is_that_of_the_proto() -> None:
    generated = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    fresh = file()
    fresh.ClearField("source_code_info")
    for message in (*fresh.message_type, *(nested for each in fresh.message_type for nested in each.nested_type)):
        for field in message.field:
            field.ClearField("json_name")  # a default that a compiler may write out
    assert generated == fresh, "run `make proto`"


def test_package_and_folder_are_one() -> None:
    assert file().package.replace(".", "/") == str(Path(FILE).parent)
    assert re.search(r"\.v\d+$", file().package)


def test_names_have_their_case() -> None:
    for message in file().message_type:
        assert PASCAL.fullmatch(message.name)
        assert all(SNAKE.fullmatch(field.name) for field in message.field), message.name
        assert all(SNAKE.fullmatch(oneof.name.lstrip("_")) for oneof in message.oneof_decl), message.name
    for service in file().service:
        assert PASCAL.fullmatch(service.name)
        assert all(PASCAL.fullmatch(method.name) for method in service.method)


def test_values_of_enums_have_their_prefix_and_zero_means_nothing() -> None:
    for enum in file().enum_type:
        prefix = re.sub(r"(?<!^)([A-Z])", r"_\1", enum.name).upper() + "_"
        assert all(value.name.startswith(prefix) for value in enum.value), enum.name
        assert (enum.value[0].name, enum.value[0].number) == (prefix + "UNSPECIFIED", 0)


def test_everything_with_a_name_of_its_own_has_a_comment() -> None:
    said = {tuple(where.path) for where in file().source_code_info.location if where.leading_comments.strip()}
    problems = [name for path, name in declarations(file()) if path not in said]
    assert problems == []


def declarations(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """(path in the source info, name) of messages, enums, services and their calls."""
    for index, message in enumerate(file.message_type):
        yield (4, index), message.name
    for index, enum in enumerate(file.enum_type):
        yield (5, index), enum.name
    for index, service in enumerate(file.service):
        yield (6, index), service.name
        yield from (((6, index, 2, at), method.name) for at, method in enumerate(service.method))


def test_the_comment_names_each_error_with_one_status() -> None:
    table = re.findall(r"^ *// +[A-Z_]{7,} +([a-z_0-9, ]+)$", TEXT, re.MULTILINE)
    named = [name for line in table for name in line.split(", ")]
    assert sorted(named) == sorted(ErrorCode)
