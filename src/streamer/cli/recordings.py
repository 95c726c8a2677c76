"""The recordings that a command reads as a whole: files and URLs."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamer.audio.files import AudioFile

_TIMEOUT_S = 30.0
"""Time in seconds without an answer after which a download is given up."""


def is_url(name: str) -> bool:
    """Return whether a recording is downloaded."""
    return name.startswith(("http://", "https://"))


def file_name(name: str) -> str:
    """Return the last part of a path or of a URL, without its query."""
    from urllib.parse import unquote, urlsplit

    return PurePosixPath(unquote(urlsplit(name).path) if is_url(name) else name).name


def read_recording(name: str) -> AudioFile:
    """Read a file, or download and read what is behind a URL. Blocks meanwhile. Raises UnreadableFile."""
    from streamer.audio.files import read_audio

    return _download(name) if is_url(name) else read_audio(name)


def _download(url: str) -> AudioFile:
    import shutil
    from http.client import HTTPException
    from tempfile import TemporaryFile
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from streamer.audio.errors import UnreadableFile
    from streamer.audio.files import decode_audio

    with TemporaryFile() as file:
        try:
            with urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 (http and https only)
                shutil.copyfileobj(answer, file)
        except HTTPError as error:
            raise UnreadableFile(f"{url}: expected audio, got HTTP {error.code} ({error.reason})") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UnreadableFile(f"{url}: cannot be downloaded: {reason}") from error
        file.seek(0)
        return decode_audio(file, url)
