"""Multipart forms: read the same however they are cut, bounded, and refused by name."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadRequest
from streamer.protocols.openai.form import (
    MAX_FIELD_BYTES,
    MAX_HEAD_BYTES,
    MAX_PARTS,
    FormField,
    FormFile,
    FormItem,
    FormReader,
)

TYPE = "multipart/form-data; boundary=limit"
FIELD = b'--limit\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = (
    b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a \\"b\\".wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n"
)
END = b"--limit--\r\n"
AUDIO = bytes(range(256)) + b"\r\n--limi\r\n--\r\n--limitX-"[:-9] + b"\r\n-\r"
FORM = FIELD % (b"model", b"whisper-1") + FILE + AUDIO + b"\r\n" + FIELD % (b"language", "dé".encode()) + END


def read(*pieces: bytes, kind: str = TYPE) -> list[FormItem]:
    """The items of a form, with each file in one piece."""
    reader = FormReader(kind)
    items: list[FormItem] = []
    for piece in pieces:
        for item in reader.push(piece):
            if isinstance(item, bytes) and items and isinstance(items[-1], bytes):
                items[-1] += item
            else:
                items.append(item)
    reader.finish()
    return items


WHOLE = [FormField("model", "whisper-1"), FormFile("file", 'a "b".wav'), AUDIO, FormField("language", "dé")]


def test_a_form_gives_its_fields_and_the_bytes_of_its_file() -> None:
    assert read(FORM) == WHOLE


def test_a_form_that_comes_byte_by_byte_is_the_same() -> None:
    assert read(*(FORM[at : at + 1] for at in range(len(FORM)))) == WHOLE


@given(st.lists(st.integers(0, len(FORM))))
def test_a_form_that_is_cut_anywhere_is_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(FORM)]
    assert read(*(FORM[start:end] for start, end in pairwise(places))) == WHOLE


@given(st.binary(max_size=400))
def test_a_file_keeps_every_byte(audio: bytes) -> None:
    if b"\r\n--limit" in b"\r\n" + audio:
        return
    items = read(FILE + audio + b"\r\n" + END)
    assert items == [FormFile("file", 'a "b".wav'), *([audio] if audio else [])]


def test_a_part_named_file_is_a_file_without_a_filename() -> None:
    assert read(FIELD % (b"file", b"abc") + END) == [FormFile("file", ""), b"abc"]


def test_blanks_behind_a_boundary_and_bytes_around_the_form_are_skipped() -> None:
    form = b"preamble\r\n" + (FIELD % (b"a", b"1")).replace(b"--limit", b"--limit \t") + END + b"epilogue"
    assert read(form) == [FormField("a", "1")]


def test_a_quoted_boundary_is_one() -> None:
    assert read(FIELD % (b"a", b"1") + END, kind='multipart/form-data; charset=utf-8; boundary="limit"') == [
        FormField("a", "1")
    ]


@pytest.mark.parametrize(
    "kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=a", f"{TYPE}{'x' * 300}"]
)
def test_another_type_is_refused(kind: str) -> None:
    with pytest.raises(BadRequest, match="Content-Type: expected multipart/form-data with a boundary"):
        FormReader(kind)


WRONG = {
    "a form that is cut short": (FORM[:-10], "the form is incomplete"),
    "no form at all": (b"RIFF" * 100, "the form is incomplete"),
    "a part without a name": (b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, "with a name"),
    "a part without headers": (b"--limit\r\n\r\nx\r\n\r\n" + END, "with a name"),
    "more behind a boundary": (b"--limit and more\r\n", "the end of a line"),
    "a boundary without an end": (b"--limit" + b" " * 100, "the end of a line"),
    "a field that is too long": (FIELD % (b"prompt", b"x" * (MAX_FIELD_BYTES + 20)), "prompt: expected at most 16384"),
    "headers that are too long": (b"--limit\r\nX: " + b"x" * MAX_HEAD_BYTES, "headers of at most 8192 bytes"),
    "too many parts": (FIELD % (b"a", b"") * (MAX_PARTS + 1), "at most 64 parts"),
    "text that is not UTF-8": (FIELD % (b"prompt", b"\xff\xfe") + END, "prompt: expected text in UTF-8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_damage_is_refused_with_its_reason(name: str) -> None:
    form, reason = WRONG[name]
    for pieces in ([form], [form[at : at + 7] for at in range(0, len(form), 7)]):
        with pytest.raises(BadRequest) as refused:
            read(*pieces)
        assert reason in refused.value.message
        assert len(refused.value.message) < 250


@given(st.binary(max_size=300))
def test_no_form_raises_anything_else(body: bytes) -> None:
    for form in (body, FILE + body, b"--limit\r\n" + body):
        with suppress(BadRequest):
            read(form)
