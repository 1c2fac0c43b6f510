"""`aosa-fast serve` as a process: how it starts, how it ends, and what it says."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from service_runs import CLIP, VIDEO, Answer, ask
from waiting import wait_for

from cli_runs import Run, one_line_error

FAST = ("--model", "demo", "--stride", "16", "--no-warmup", "--port", "0")
SLOW = (*FAST, "--method", "aosa", "--stride", "6", "--batch-size", "1")  # seconds


class Process:
    """A service, as a user starts it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
        self.token: dict[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return ask(connection, method, path, body, {**(headers or {}), **self.token})
        finally:
            connection.close()

    def under_way(self) -> bool:
        return b"aosa_requests_in_flight 1.0" in self.ask("GET", "/metrics").body

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


@contextmanager
def running(folder: Path, *arguments: object, **environment: str) -> Iterator[Process]:
    code = "from aosa_fast.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), **environment},
    )
    try:
        assert process.stdout is not None
        said = re.fullmatch(r"ready: http://[0-9.]+:([0-9]+)/\n", process.stdout.readline())
        assert said, process.communicate(timeout=60)[1]
        yield Process(process, int(said[1]))
    finally:
        process.kill()
        process.communicate()


def test_what_is_under_way_is_answered_when_it_is_to_end(tmp_path: Path) -> None:
    answers: list[Answer] = []
    with running(tmp_path, *SLOW, "--host", "0.0.0.0", AOSA_TOKEN="0123456789abcdef") as served:
        served.token = {"Authorization": "Bearer 0123456789abcdef"}
        asking = threading.Thread(target=lambda: answers.append(served.ask("POST", "/explain", CLIP, VIDEO)))
        asking.start()
        wait_for(served.under_way)
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(served.port), 5)
        assert not answers
        asking.join()
        code, output, errors = served.end()
    assert (code, output, answers[0].status) == (0, "ended\n", 200)
    assert re.search(r"^127\.0\.0\.1 POST /explain 200 [0-9]+ B [0-9.]+ s$", errors, re.MULTILINE)
    assert [*tmp_path.iterdir()] == []


def refused(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return False
    except OSError:
        return True


def test_without_a_model_it_says_what_the_embedded_one_knows(tmp_path: Path) -> None:
    with running(tmp_path, "--no-warmup", "--port", "0") as served:
        assert served.process.stdout is not None
        assert "six synthetic motions only" in served.process.stdout.readline()


def test_a_second_signal_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, *SLOW) as served, socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\n")
        raw.sendall(f"Content-Length: {len(CLIP)}\r\n\r\n".encode() + CLIP)
        wait_for(served.under_way)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(served.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert children
        for _ in range(2):
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert served.process.wait(5) == 128 + signal.SIGTERM
        assert [*tmp_path.iterdir()] == []
        wait_for(lambda: not any(Path("/proc", pid).exists() for pid in children), 10)


def test_what_is_not_answered_in_time_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    options = ("--grace", 1, "--quiet", "--token-file", tmp_path / "token")
    with running(tmp_path, *FAST, *options) as served, socket.create_connection(("127.0.0.1", served.port)) as raw:
        assert served.ask("GET", "/about").status == 401
        served.token = {"Authorization": "Bearer 0123456789abcdef"}
        raw.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n")
        raw.sendall(b"Content-Type: video/mp4\r\nContent-Length: 9\r\n\r\n")
        wait_for(served.under_way)
        served.process.send_signal(signal.SIGINT)
        raw.settimeout(20)
        assert raw.recv(1000).startswith(b"HTTP/1.1 503 ")
        assert served.end() == (1, "ended: 1 requests were left unanswered\n", "")


def test_what_cannot_be_served_is_one_line(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = one_line_error(aosa("serve", "--port", port))
        assert error == f"error: port must be free on host=127.0.0.1; got {port}: Address already in use"
    (tmp_path / "short").write_text("abc")
    for options, message in (
        (("--host", "0.0.0.0"), "token must be given (--token-file FILE, or AOSA_TOKEN) where host is no loopback"),
        (("--token-file", tmp_path / "short"), "token must have at least 16 characters; got 3"),
        (("--token-file", tmp_path / "none"), f"{tmp_path / 'none'}: must be readable; got No such file"),
        (("--concurrency", 0), "concurrency must be at least 1; got 0"),
        (("--model", "nothing"), "model must be one of "),
        (("--host", "no.such.host.invalid"), "token must be given"),
    ):
        assert one_line_error(aosa("serve", "--port", 0, *options)).startswith(f"error: {message}")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error = one_line_error(aosa("serve", "--port", 0))
    assert error == 'error: serve must have uvicorn; it is missing: pip install "aosa-fast[serve]"'


def test_a_model_that_cannot_be_used_is_one_line(aosa: Run) -> None:
    error = one_line_error(aosa("serve", "--port", 0, "--method", "grad-cam", "--layer", "nowhere"))
    assert error.startswith("error: layer must be ")


def test_other_commands_do_not_load_a_server() -> None:
    code = (
        "import sys; import aosa_fast; from aosa_fast.cli.main import app\n"
        "try: app(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'torch'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
