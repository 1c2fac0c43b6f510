"""`aosa-fast stream`: what it writes and shows, and how it ends."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_server import LiveServer, picture, readers, wait_for
from PIL import Image

from aosa_fast import explain, models
from aosa_fast.demo import demo_clip_path
from aosa_fast.errors import VideoError
from aosa_fast.streams.overlay import Painted
from aosa_fast.streams.page import Page
from aosa_fast.video import read_clip, write_video
from audit_disk import short_files
from cli_runs import Run, one_line_error

FAST = ("--stride", "16", "--model", "demo")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_becomes_a_video_of_all_its_frames_with_their_maps(aosa: Run, tmp_path: Path) -> None:
    path, out, metrics = tmp_path / "waves.mp4", tmp_path / "new" / "maps.mp4", tmp_path / "new" / "lines.jsonl"
    write_video(path, np.stack([picture(t, 85, 72) for t in range(30)]), fps=25)
    done = aosa("stream", path, "--hop", 5, "--timeout", "inf", "--out", out, "--metrics", metrics, *FAST)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        rf"ended: 30 frames, 3 maps, 0 dropped, at most [0-9.]+ s behind; {out} and {metrics}\n", done.stdout
    )
    found = lines(metrics)
    assert Counter(line["kind"] for line in found) == {"frame": 30, "map": 3}
    assert [line["number"] for line in found if line["kind"] == "map"] == [15, 20, 25]
    assert all(line["age"] >= 0 for line in found)
    last = read_clip(path, 16, stride=1, start=10).frames
    plain = explain(models.load("demo"), torch.from_numpy(last[None]), stride=16)
    assert [line for line in found if line["kind"] == "map"][-1]["probability"] == pytest.approx(
        plain.metadata["probability"][0], abs=1e-6
    )
    video = read_clip(out, 26, stride=1, start=0)
    assert (video.total_frames, video.fps) == (26, pytest.approx(25))


def test_raw_frames_come_on_stdin(tmp_path: Path) -> None:
    """The last of them not whole."""
    raw = b"".join(picture(t, 70, 66).tobytes() for t in range(18))
    command = ("stream", "-", "--size", "70x66", "--hop", "2", "--metrics", tmp_path / "lines.jsonl", *FAST)
    done = subprocess.run(program(*command), input=raw + raw[:1000], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"ended: 18 frames, 2 maps, 0 dropped, 1 damaged, at most ")
    plain = explain(
        models.load("demo"), torch.from_numpy(np.stack([picture(t, 70, 66) for t in range(2, 18)])[None]), stride=16
    )
    assert lines(tmp_path / "lines.jsonl")[-1]["probability"] == pytest.approx(
        plain.metadata["probability"][0], abs=1e-6
    )


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()", *map(str, arguments)]


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(program(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_file_that_is_too_short_for_a_map_is_said(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is no protocol of FFmpeg's."""
    out = tmp_path / "maps.mp4"
    write_video(tmp_path / "take:1.mp4", np.stack([picture(t, 64, 64) for t in range(15)]), fps=25)
    monkeypatch.chdir(tmp_path)
    done = aosa("stream", "take:1.mp4", "--model", "demo", "--out", out)
    assert (done.returncode, done.stdout) == (0, "ended: 15 frames, 0 maps, 0 dropped; a map needs 16 in a row\n")
    assert not out.exists()


def test_ctrl_c_ends_a_live_stream_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "maps.mp4"
    options = ("--hop", 4, "--out", out, "--serve", 0, *FAST)
    with LiveServer() as server, running("stream", server.address, *options) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("page: ").strip()
        assert b'<img src="/stream"' in urllib.request.urlopen(address, timeout=60).read()
        with urllib.request.urlopen(f"{address}stream", timeout=60) as stream:
            pictures = [next_picture(stream) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    said = re.fullmatch(
        rf"interrupted: ([0-9]+) frames, ([0-9]+) maps?, [0-9]+ dropped, at most [0-9.]+ s behind; {out}\n", output
    )
    assert said
    # 18 pixels above the frame, which was enlarged from 48 pixels, say what is explained.
    assert all(image.size == (240, 258) for image in pictures)
    assert read_clip(out, 16, stride=1, start=0).total_frames >= 16 + 4 * (int(said[2]) - 1) - 4


def next_picture(stream: Any) -> Image.Image:
    assert stream.readline() == b"--frame\r\n"
    headers = dict(line.decode().strip().split(": ") for line in iter(stream.readline, b"\r\n"))
    content = stream.read(int(headers["Content-Length"]))
    assert stream.read(2) == b"\r\n"

    return Image.open(io.BytesIO(content))


def test_what_is_killed_leaves_a_video_and_no_process(tmp_path: Path) -> None:
    out = tmp_path / "maps.mp4"
    with LiveServer() as server:
        with running("stream", server.address, "--hop", 2, "--out", out, *FAST) as process:
            wait_for(lambda: frames_of(out) >= 16)
            assert readers(server.address)
            server.hang = True
            server.cut()
            wait_for(lambda: server.accepted == 2)
            process.kill()
        wait_for(lambda: not readers(server.address))
    assert frames_of(out) >= 16


def frames_of(path: Path) -> int:
    """How many can be played by now."""
    with suppress(VideoError):
        return read_clip(path, 1, stride=1, start=0).total_frames
    return 0


def test_a_file_that_is_interrupted_is_not_done(aosa: Run, tmp_path: Path) -> None:
    path, metrics = tmp_path / "waves.mp4", tmp_path / "lines.jsonl"
    write_video(path, np.stack([picture(t, 64, 64) for t in range(200)]), fps=25)

    def interrupt() -> None:
        wait_for(lambda: metrics.exists() and '"map"' in metrics.read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    thread, before = threading.Thread(target=interrupt), signal.getsignal(signal.SIGTERM)
    thread.start()
    done = aosa("stream", path, "--hop", 1, "--metrics", metrics, "--method", "aosa", *FAST)
    thread.join()
    assert done.returncode == 143
    assert done.stdout.startswith("interrupted: ")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("option", "name", "length"), [("--out", "maps.mp4", 40_000), ("--metrics", "m.jsonl", 2000)])
def test_a_full_disk_ends_it_in_one_line_and_leaves_what_was_written(
    aosa: Run, tmp_path: Path, option: str, name: str, length: int
) -> None:
    path = tmp_path / "waves.mp4"
    write_video(path, np.stack([picture(t, 128, 96) for t in range(60)]), fps=25)
    with short_files(length):
        done = aosa("stream", path, "--hop", 1, option, tmp_path / name, *FAST)
    assert one_line_error(done) == f"error: {tmp_path / name}: must be writable; got File too large"
    if option == "--out":
        assert read_clip(tmp_path / name, 16, stride=1, start=0).total_frames > 16
    else:
        assert '{"kind": "frame", "connection": 0, "number": 3,' in (tmp_path / name).read_text()


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_video_at_an_address_is_over_at_its_end(aosa: Run, tmp_path: Path) -> None:
    handler = partial(Files, directory=str(demo_clip_path().parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/{demo_clip_path().name}"
        files = ("--policy", "wait", "--consume", "lazy")
        done = aosa("stream", address, "--metrics", tmp_path / "lines.jsonl", *files, *FAST)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ended: 16 frames, 1 map, 0 dropped, at most ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{folder}/note.mp4", "--out", "{folder}/a.mp4"), r"note.mp4: .*[Ii]nvalid data"),
        (
            ("{folder}/empty.y4m", "--out", "{folder}/a.mp4"),
            r"empty.y4m: must have frames that can be decoded; it has none$",
        ),
        (("{folder}/none.mp4", "--out", "{folder}/a.mp4"), r"none.mp4: must exist"),
        (("{clip}",), r"^error: out, serve or metrics must be given; got none"),
        (("{clip}", "--out", "{folder}/a.avi"), r"a.avi: must end in .mp4; got .avi$"),
        (("{clip}", "--out", "{folder}"), r"must end in .mp4"),
        (("{clip}", "--metrics", "{folder}"), r": must be a file name; it is a folder$"),
        (("{clip}", "--serve", "99999"), r"^error: serve must be a port that is free on 127.0.0.1; got 99999"),
        (("{clip}", "--serve", "0", "--timeout", "0"), r"timeout above 0"),
        (("tcp://127.0.0.1:1", "--serve", "0", "--retries", "0"), r"^error: tcp://127.0.0.1:1: Connection refused$"),
        (("camera:63", "--serve", "0", "--retries", "0"), r"^error: camera:63: No such file or directory$"),
        (("no://me:pa55@h", "--serve", "0", "--retries", "0"), r"^error: no://me:\*\*\*@h: Protocol not found$"),
    ],
)
def test_what_cannot_be_streamed_is_one_line(
    aosa: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty.y4m").write_text("YUV4MPEG2 W8 H8 F25:1 C420\n")
    (tmp_path / "note.mp4").write_text("no video at all, only some words that nobody can decode" * 20)
    done = aosa("stream", *(word.format(folder=tmp_path, clip=demo_clip_path()) for word in arguments))
    assert re.search(message, one_line_error(done)), done.stderr
    assert not (tmp_path / "a.mp4").exists()


def noise(seed: int) -> Painted:
    image = np.random.default_rng(seed).integers(0, 256, (500, 500, 3), np.uint8)
    return Painted(image, time.monotonic(), None, "noise")


@pytest.mark.parametrize(("source", "page"), [("tcp://127.0.0.1:1", "0"), (str(demo_clip_path()), "taken")])
def test_what_was_recorded_before_stays_where_there_is_nothing_to_take_its_place(
    aosa: Run, tmp_path: Path, source: str, page: str
) -> None:
    out, metrics = tmp_path / "maps.mp4", tmp_path / "ages.jsonl"
    for path in (out, metrics):
        path.write_bytes(b"of yesterday")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1]) if page == "taken" else page
        one_line_error(aosa("stream", source, "--out", out, "--metrics", metrics, "--serve", port, "--retries", "0"))
    assert [path.read_bytes() for path in (out, metrics)] == [b"of yesterday"] * 2


def test_a_client_that_takes_nothing_keeps_nobody_waiting() -> None:
    page = Page(0)
    host, port = page.address.removeprefix("http://").strip("/").split(":")
    try:
        with ExitStack() as silent, socket.create_connection((host, int(port))) as idle:
            for _ in range(20):
                silent.enter_context(socket.create_connection((host, int(port))))
            idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idle.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            with urllib.request.urlopen(f"{page.address}stream", timeout=60) as stream:
                for seed in range(40):
                    start = time.monotonic()
                    page.show([noise(seed)])
                    assert time.monotonic() - start < 2  # it would be 5 s
                    assert next_picture(stream).size == (500, 530)
    finally:
        page.close()


def test_eight_may_look_at_a_time() -> None:
    page = Page(0)

    def look() -> Any:
        page.show([noise(0)])  # whoever has gone is noticed by the next picture
        try:
            return urllib.request.urlopen(f"{page.address}stream", timeout=60)
        except urllib.error.HTTPError as error:
            return error.code

    try:
        with ExitStack() as clients:
            first, *_ = [clients.enter_context(look()) for _ in range(8)]
            assert look() == 503
            first.close()
            wait_for(lambda: look() != 503)
    finally:
        page.close()


def test_the_page_is_for_this_machine_only() -> None:
    page = Page(0)
    try:
        request = urllib.request.Request(page.address, headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=60)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{page.address}other", timeout=60)
        assert page.address.startswith("http://127.0.0.1:")
    finally:
        page.close()
