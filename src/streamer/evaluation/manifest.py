"""Recordings with their words, as LibriSpeech and Common Voice list them, or a plain table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import BadRequest

_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".aiff")


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """An audio file, and what is said in it."""

    path: Path
    text: str


def read_manifest(path: Path) -> list[ManifestEntry]:
    """Return the recordings that a manifest lists, in its order.

    `path`: a directory of LibriSpeech or one of its `.trans.txt` files (`ID WORDS`, the recording beside it); a table
    of Common Voice (`.tsv` with the columns `path` and `sentence`, the recordings in `clips` beside it); or a plain
    table of a file, a tab, and its words, files relative to the table.

    Raises BadRequest, which says the line and what was expected.
    """
    try:
        found = list(_read(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: the manifest cannot be read: {error}") from error
    if not found:
        raise BadRequest(f"{path}: the manifest lists no recordings: expected a file, a tab and its words on each line")
    missing = [recording.path for recording in found if not recording.path.is_file()]
    if missing:
        raise BadRequest(f"{path}: {len(missing)} of {len(found)} recordings are not there, such as {missing[0]}")
    return found


def _read(path: Path) -> Iterator[ManifestEntry]:
    if path.is_dir():
        for part in sorted(path.rglob("*.trans.txt")):
            yield from _librispeech(part)
        return
    if path.name.endswith(".trans.txt"):
        yield from _librispeech(path)
        return
    with path.open(encoding="utf-8", newline="") as file:
        header = file.readline().rstrip("\r\n").split("\t")
    if "path" in header and "sentence" in header:
        yield from _common_voice(path)
    else:
        yield from _plain(path)


def _librispeech(path: Path) -> Iterator[ManifestEntry]:
    for number, line in _lines(path):
        name, space, words = line.partition(" ")
        if not space:
            raise _wrong(path, number, "an id, a space and the words", line)
        beside = [path.with_name(name + suffix) for suffix in _SUFFIXES]
        yield ManifestEntry(next((file for file in beside if file.is_file()), beside[0]), words)


def _common_voice(path: Path) -> Iterator[ManifestEntry]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            clip = path.parent / "clips" / str(row["path"])
            yield ManifestEntry(clip if clip.is_file() else path.parent / str(row["path"]), str(row["sentence"] or ""))


def _plain(path: Path) -> Iterator[ManifestEntry]:
    for number, line in _lines(path):
        name, tab, words = line.partition("\t")
        if not tab:
            raise _wrong(path, number, "a file, a tab and its words", line)
        yield ManifestEntry(path.parent / name, words)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _wrong(path: Path, number: int, expected: str, got: str) -> BadRequest:
    return BadRequest(f"{path}:{number}: expected {expected}, got {got[:60]!r}")
