"""The clients of the service's bench: what they count as an answer, and when they ask."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import numpy as np
import pytest

from aosa_fast.bench.serve_answers import CLIENT, Answers

BODY = 4_000_000  # bytes, more than sockets hold: who does not read them keeps the client sending
ANSWER = b"HTTP/1.1 %d Words\r\nContent-Length: %d\r\n\r\n"


def take(connection: Any) -> None:
    """Reads a whole request."""
    while b"\r\n\r\n" not in (read := connection.recv(65536)):
        pass
    left = BODY - len(read.partition(b"\r\n\r\n")[2])
    while left:
        left -= len(connection.recv(min(left, 65536)))


def answered(connection: Any) -> None:
    take(connection)
    connection.sendall(ANSWER % (200, 7) + b'"files"')


def refused_before_the_body(connection: Any) -> None:
    connection.sendall(ANSWER % (503, 4) + b"busy")


def cut_short(connection: Any) -> None:
    take(connection)
    connection.sendall(ANSWER % (200, 700) + b'"files"')


def hung_up(connection: Any) -> None:
    take(connection)


def without_what_was_asked_for(connection: Any) -> None:
    take(connection)
    connection.sendall(ANSWER % (200, 2) + b"{}")


def failed(connection: Any) -> None:
    take(connection)
    connection.sendall(ANSWER % (500, 4) + b"oops")


@contextmanager
def server(*ways: Callable[[Any], None]) -> Iterator[int]:
    """The port of one that deals with each connection in one of these ways, in turn."""
    turn = iter(ways * 1000)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            next(turn)(self.request)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield listening.server_address[1]
        listening.shutdown()
        thread.join()


def load(tmp_path: Path, **arguments: Any) -> dict[str, Any]:
    (tmp_path / "body").write_bytes(bytes(BODY))
    words = {"path": "/explain", "body": str(tmp_path / "body"), **arguments}
    out = tmp_path / "out.json"
    subprocess.run([sys.executable, "-I", CLIENT, "load", json.dumps(words), out], check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_only_whole_answers_with_what_was_asked_for_count(tmp_path):
    ways = (answered, refused_before_the_body, cut_short, hung_up, without_what_was_asked_for, failed)
    with server(*ways) as port:
        found = load(tmp_path, port=port, seconds=30, clients=1, count=len(ways), expected='"files"')
    assert [row[3] for row in found["rows"]] == [200, 503, 0, 0, 0, 500]
    assert sorted(found["broken"].values()) == [1, 1, 1, 1]


def test_requests_come_when_they_are_due_and_clients_go_away(tmp_path):
    gone = []

    def notices(connection: Any) -> None:
        while connection.recv(65536):
            pass
        gone.append(1)

    with server(notices) as port:
        wanted = {"port": port, "seconds": 0.6, "rate": 40.0, "leaving": 1.0, "within": 0.1}
        first, second = (load(tmp_path, **wanted)["rows"] for _ in range(2))
    assert sorted(row[0] for row in first) == sorted(row[0] for row in second)  # rows come as requests end
    assert all(sent >= due for due, sent, *_ in first)
    assert {row[3] for row in first} == {-1}
    assert len(gone) == len(first) + len(second)


def test_goodput_is_what_waiting_clients_got_after_the_start():
    done, status, leaves = [0.5, 2.0, 3.0, 3.0, 4.0, 11.0], [200, 200, 200, 200, 503, 200], [0, 0, 0, 1, 0, 0]
    rows = np.array([[0, 0, *row] for row in zip(done, status, leaves, strict=True)], float)
    answers = Answers(rows, 10.0, {}, 0.0)
    assert answers.goodput() == pytest.approx(2 / 9)
    assert answers.share(503) == 20
    assert list(answers.times(503)) == [4000]
