"""Download of files of a repository on the hub into a cache; downloads resume, and digests are checked.

The hub's own library restarts a download in each process and compares sizes only, so a machine with an unreliable
network never completes a large one. This module uses the hub's HTTP interface, with the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from time import monotonic, sleep
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from streamer.errors import ModelLoadError

ENDPOINT = "https://huggingface.co"

_TIMEOUT_S = 30.0
_TRIES = 5
"""Consecutive tries without a received byte after which a download fails."""
_WAIT_S = 1.0
_BLOCK = 1 << 18
_MAX_ANSWER = 16 << 20
_LOG_EVERY_S = 10.0
_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the name of a file, its received bytes, and its size in bytes."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One file of a repository. `digest`: SHA-256 (64 characters) or git's SHA-1 of a blob (40)."""

    name: str
    size: int
    digest: str


def cache_directory() -> Path:
    """Return the cache directory: STREAMER_CACHE, or `streamer` in the user's cache directory."""
    if own := os.environ.get("STREAMER_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "streamer"


def find_cached(repository: str, revision: str, patterns: Sequence[str]) -> Path | None:
    """Return the directory of a repository in this cache or in the one of the hub's own library; None if incomplete."""
    name = repository.replace("/", "--")
    own = cache_directory() / "models" / name
    hub = os.environ.get("HF_HUB_CACHE") or str(Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub")
    theirs = Path(hub).expanduser() / f"models--{name}"
    for root, snapshots in ((own, own), (theirs, theirs / "snapshots")):
        reference = root / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        found = snapshots / commit
        if found.is_dir() and all(any(found.glob(pattern)) for pattern in patterns):
            return found
    return None


def fetch(repository: str, revision: str, patterns: Sequence[str], progress: Progress | None = None) -> Path:
    """Return the directory with the files of a repository that match `patterns`, after fetching what is missing.

    Raises OSError or HTTPException when the hub cannot be reached or breaks off too often, ModelLoadError when a file
    is not the one that was announced or the repository has none of the files.
    """
    commit, files = _list(repository, revision, patterns)
    root = cache_directory() / "models" / repository.replace("/", "--")
    for file in files:
        target = root / commit / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(target.name + ".part")) as part:
            if not target.is_file():
                url = f"{_endpoint()}/{repository}/resolve/{commit}/{quote(file.name)}"
                _download(url, part, file, progress or _logged())
                _check(Path(part.name), file, repository)
                Path(part.name).replace(target)
    reference = root / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    return root / commit


def check_digest(path: Path, digest: str) -> str | None:
    """Compare a file with its SHA-256 or git's SHA-1. Return None when they are equal, else the file's digest."""
    if len(digest) == 64:
        hashed = hashlib.sha256()
    else:
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    return None if hashed.hexdigest() == digest else hashed.hexdigest()


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def _open(url: str, begin: int = 0) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ModelLoadError(f"HF_ENDPOINT: expected an address of http or https, got {url[:80]!r}")
    request = Request(url, headers={"User-Agent": "streamer", "Accept-Encoding": "identity"})  # noqa: S310 (checked)
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    if token := os.environ.get("HF_TOKEN"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # for the hub, not for where it sends us
    return urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310


def _list(repository: str, revision: str, patterns: Sequence[str]) -> tuple[str, list[Remote]]:
    """Return the commit of a revision, and its files that match."""
    url = f"{_endpoint()}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    with _open(url) as answer:
        document = json.loads(answer.read(_MAX_ANSWER))
    try:
        commit = str(document["sha"])
        files = [
            Remote(entry["rfilename"], int(entry["size"]), (entry.get("lfs") or {}).get("sha256") or entry["blobId"])
            for entry in document["siblings"]
            if any(fnmatchcase(entry["rfilename"], pattern) for pattern in patterns)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{repository}: the hub's list of files cannot be read: {error!r}") from error
    unsafe = [file.name for file in files if PurePosixPath(file.name).is_absolute() or ".." in file.name.split("/")]
    if unsafe or not commit.isalnum() or any(len(file.digest) not in (40, 64) for file in files):
        raise ModelLoadError(f"{repository}: the hub's list of files is not to be trusted: {(unsafe or [commit])[0]!r}")
    if not files:
        raise ModelLoadError(
            f"{repository} has none of the files {', '.join(patterns)}: not a repository of this model"
        )
    return commit, files


def _download(url: str, part: IO[bytes], file: Remote, progress: Progress) -> None:
    """Append the missing bytes to `part`. Each try resumes at the end of the last one."""
    tries = 0
    while (here := part.seek(0, os.SEEK_END)) < file.size:
        try:
            with _open(url, here) as answer:
                if here and answer.status != 206:  # the server begins anew, so do we
                    part.truncate(0)
                    here = 0
                while block := answer.read(_BLOCK):
                    part.write(block)
                    here += len(block)
                    tries = 0
                    progress(file.name, here, file.size)
            part.flush()
            problem: Exception = OSError(f"{file.name} ended after {here} of {file.size} bytes")
        except HTTPError as error:
            if error.code not in (408, 429) and error.code < 500:
                raise
            problem = error
        except (OSError, HTTPException) as error:
            problem = error
        if part.seek(0, os.SEEK_END) < file.size:
            tries += 1
            if tries >= _TRIES:
                raise problem
            sleep(_WAIT_S * tries)


def _check(part: Path, file: Remote, repository: str) -> None:
    if (got := check_digest(part, file.digest)) is not None:
        part.unlink()
        raise ModelLoadError(
            f"{file.name} from {repository} is not the file that the hub announced: expected digest "
            f"{file.digest[:16]}..., got {got[:16]}...; it was not kept. Try again; tell the hub if it happens again"
        )


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for one process at a time, so that workers that start together download it once."""
    with path.open("ab") as file:
        try:
            import fcntl  # noqa: PLC0415 (not on Windows)

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:  # pragma: no cover
            pass
        try:
            yield file
        finally:
            if path.exists() and not path.stat().st_size:
                path.unlink()


def _logged() -> Progress:
    """Return a progress callback that logs a line every ten seconds."""
    logged_at = monotonic()

    def progress(name: str, here: int, total: int) -> None:
        nonlocal logged_at
        if monotonic() - logged_at >= _LOG_EVERY_S:
            logged_at = monotonic()
            _log.info("fetching %s: %d of %d MB", name, here >> 20, total >> 20)

    return progress
