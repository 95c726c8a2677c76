"""A stand-in of the hub's HTTP interface: a repository's files over loopback, which may break off or lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """One repository. `break_after`: bytes of each answer after which the connection is cut."""

    def __init__(self, repository: str, files: Mapping[str, bytes], *, break_after: int | None = None) -> None:
        self.repository = repository
        self.files = dict(files)
        self.digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.break_after = break_after
        self.breaks = 1_000
        """How often it is cut."""
        self.ranged = True
        """Whether it answers to Range."""
        self.hold_after: int | None = None
        """Bytes of each answer after which it says no more; `held` is set then."""
        self.held = Event()
        self.ranges: list[tuple[str, str]] = []
        """(file, Range header) of every download."""
        self.endpoint = ""

    def siblings(self) -> list[dict[str, object]]:
        return [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": {"sha256": self.digests[name]}}
            for name, data in self.files.items()
        ]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0].replace("%2F", "/")
            if path.startswith(f"/api/models/{hub.repository}"):
                info = {"id": hub.repository, "sha": COMMIT, "siblings": hub.siblings()}
                return self.send(json.dumps(info).encode())
            for name in hub.files:
                if path in (f"/{hub.repository}/resolve/{revision}/{name}" for revision in ("main", COMMIT)):
                    return self.file(name, body=body)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None

        def send(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def file(self, name: str, *, body: bool) -> None:
            data, asked = hub.files[name], self.headers.get("Range", "") if hub.ranged else ""
            begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            if not body:
                return
            hub.ranges.append((name, asked))
            if hub.hold_after is not None and len(data) > hub.hold_after:
                self.wfile.write(data[begin : begin + hub.hold_after])
                hub.held.set()
                with suppress(OSError):
                    self.connection.recv(1)  # until the client is gone
                self.close_connection = True
                return
            if hub.breaks and hub.break_after is not None and len(data) > hub.break_after:
                hub.breaks -= 1
                self.wfile.write(data[begin : begin + hub.break_after])
                self.close_connection = True
                return
            self.wfile.write(data[begin:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
