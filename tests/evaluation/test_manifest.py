"""Manifests of LibriSpeech, Common Voice and plain tables; what is wrong in one is named."""

import pytest

from streamer.errors import BadRequest
from streamer.evaluation.manifest import ManifestEntry, read_manifest


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_librispeech_is_read_from_its_directory_or_one_chapter(tmp_path):
    first = touch(tmp_path / "84" / "121123" / "84-121123-0000.flac")
    second = touch(tmp_path / "84" / "121550" / "84-121550-0000.wav")
    (first.parent / "84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n")
    (second.parent / "84-121550.trans.txt").write_text("84-121550-0000 BUT IN LESS\n")
    both = [ManifestEntry(first, "GO DO YOU HEAR"), ManifestEntry(second, "BUT IN LESS")]
    assert read_manifest(tmp_path) == both
    assert read_manifest(first.parent / "84-121123.trans.txt") == both[:1]


def test_common_voice_is_read_by_its_columns(tmp_path):
    clip = touch(tmp_path / "clips" / "common_voice_en_1.mp3")
    (tmp_path / "test.tsv").write_text(
        'client_id\tpath\tsentence\tup_votes\nx\tcommon_voice_en_1.mp3\tHe said "no" twice.\t2\n'
    )
    assert read_manifest(tmp_path / "test.tsv") == [ManifestEntry(clip, 'He said "no" twice.')]


def test_a_plain_table_is_a_file_a_tab_and_its_words(tmp_path):
    clip = touch(tmp_path / "sub" / "a.wav")
    (tmp_path / "list.tsv").write_text("\ufeff# of mine\n\nsub/a.wav\tDon't  stop\n", encoding="utf-8")
    assert read_manifest(tmp_path / "list.tsv") == [ManifestEntry(clip, "Don't  stop")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no recordings: expected a file, a tab and its words"),
        ("a.wav the words\n", r"list\.tsv:1: expected a file, a tab and its words, got 'a\.wav the words'"),
        ("a.wav\twords\nb.wav\twords\n", r"2 of 2 recordings are not there, such as .*a\.wav"),
        ("\xff", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    (tmp_path / "list.tsv").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadRequest, match=words):
        read_manifest(tmp_path / "list.tsv")


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadRequest, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.tsv")
