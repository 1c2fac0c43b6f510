"""Hubs that models are fetched from, on this machine: Hugging Face's interface, and plain files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the files of a folder: at /NAME, and as the model me/tiny of Hugging Face.

    Attributes:
        refused: (status, headers) that everything gets instead, or None.
        cut: names of files of which half is sent.
        asked: the paths of all requests, in order.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.refused: tuple[int, dict[str, str]] | None = None
        self.cut: set[str] = set()
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files = {file.name: file.read_bytes() for file in self.server.folder.iterdir() if file.is_file()}
        if self.server.refused is not None:
            status, headers = self.server.refused
            self.answer(b"", status, headers)
        elif path == "/api/models/me/tiny/revision/main":
            self.answer_json({"id": "me/tiny", "sha": REVISION, "siblings": [{"rfilename": name} for name in files]})
        elif path == f"/api/models/me/tiny/tree/{REVISION}":
            self.answer_json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": mark(content)}
                    for name, content in files.items()
                ]
            )
        elif (name := path.rpartition("/")[2]) in files and path in (f"/{name}", f"/me/tiny/resolve/{REVISION}/{name}"):
            content = files[name]
            headers = {"ETag": f'"{mark(content)}"', "X-Repo-Commit": REVISION}
            self.answer(content, 200, headers, len(content) // 2 if name in self.server.cut else None)
        else:
            self.answer(b"", 404, {"X-Error-Code": "RepoNotFound"})

    def answer_json(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def answer(self, content: bytes, status: int, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:sent])
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def mark(content: bytes) -> str:
    """What Git names a file by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    with Hub(folder) as hub:
        thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
