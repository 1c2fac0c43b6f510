"""From a source to frames: what is opened, what is dropped, and what happens where a source is silent or goes away."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from live_server import LiveServer, readers, wait_for

from aosa_fast import InputError
from aosa_fast.demo import demo_clip_path
from aosa_fast.streams.buffer import Buffer, Frame
from aosa_fast.streams.receiver import Receiver, find_wait
from aosa_fast.streams.source import parse_source
from aosa_fast.video import read_clip

MAKERS = Path(__file__).parents[1] / "makers"


def frames(count: int) -> list[Frame]:
    return [Frame(np.zeros((2, 2, 3), np.uint8), number, number / 25, 0.0) for number in range(count)]


def numbers(buffer: Buffer) -> list[int]:
    buffer.close()
    return [frame.number for frame in iter(buffer.take, None)]


@pytest.mark.parametrize(
    ("policy", "consumption", "taken", "dropped"),
    [
        ("drop-oldest", "lazy", [3, 4, 5], 3),
        ("drop-newest", "lazy", [0, 1, 2], 3),
        ("drop-oldest", "eager", [5], 5),
        ("drop-newest", "eager", [2], 5),
    ],
)
def test_a_full_buffer_drops_what_its_policy_says_and_counts_it(policy, consumption, taken, dropped):
    buffer = Buffer(policy, consumption, 3)
    for frame in frames(6):
        buffer.put(frame)
    assert numbers(buffer) == taken
    assert buffer.dropped == dropped


@pytest.mark.parametrize(("consumption", "taken"), [("lazy", [0, 1, 2, 3, 4, 5]), ("eager", [2, 5])])
def test_frames_wait_for_room_where_the_policy_is_wait(consumption, taken):
    buffer, found = Buffer("wait", consumption, 3), []

    def fill() -> None:
        for frame in frames(6):
            buffer.put(frame)
        buffer.close()

    thread = threading.Thread(target=fill)
    thread.start()
    while thread.is_alive() and not buffer.is_full:
        time.sleep(0.001)
    while frame := buffer.take():
        found.append(frame.number)
        while consumption == "eager" and thread.is_alive() and not buffer.is_full:
            time.sleep(0.001)
    thread.join()
    assert found == taken
    assert buffer.dropped == 6 - len(taken)


def test_a_file_is_read_to_its_end_and_nothing_is_dropped():
    buffer = Buffer("wait", "lazy", 2)
    with stopping(Receiver(parse_source(str(demo_clip_path())), buffer, stride=3)) as receiver:
        found = list(iter(buffer.take, None))
    clip = read_clip(demo_clip_path(), 6, stride=3, start=0)
    assert [frame.number for frame in found] == list(clip.indices)
    assert np.array_equal(np.stack([frame.image for frame in found]), clip.frames)
    assert [frame.time for frame in found] == pytest.approx(clip.times)
    assert receiver.error is None
    assert (receiver.frames, buffer.dropped) == (6, 0)


def test_the_files_that_a_file_names_are_left_alone(tmp_path):
    shutil.copy(demo_clip_path(), tmp_path / "other.mp4")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    buffer = Buffer("wait", "lazy", 2)
    with stopping(Receiver(parse_source(str(path)), buffer)) as receiver:
        assert list(iter(buffer.take, None)) == []
    assert receiver.error == "Invalid argument"


@contextmanager
def stopping(receiver: Receiver) -> Iterator[Receiver]:
    try:
        yield receiver
    finally:
        receiver.stop()


def test_a_silent_server_is_given_up_and_asked_again():
    """It accepts a connection, and says nothing: FFmpeg would wait for ever."""
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        buffer = Buffer("drop-oldest", "eager", 8)
        receiver = Receiver(parse_source(name), buffer, timeout=1.0, retries=1, tell=said.append)
        with stopping(receiver):
            assert buffer.take(120) is None
    assert said == [f"{name}: silent for 1 s; again in 0.5 s"]
    assert receiver.error == "silent for 1 s"
    assert readers(name) == []


def test_what_keeps_coming_is_not_silent_though_no_frame_of_it_is_wanted():
    """A frame of each third second is; after two seconds with nothing the source would be opened again."""
    with LiveServer() as server:
        buffer = Buffer("drop-oldest", "lazy", 8)
        with stopping(Receiver(parse_source(server.address), buffer, stride=75, timeout=2.0)):
            until(buffer, lambda frame: frame.number == 75)


def test_attempts_become_rarer_but_never_cease():
    assert [find_wait(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert find_wait(100_000) == 30  # more than a month


def test_where_nobody_can_be_told_the_stream_ends_and_says_why():
    def tell(text: str) -> None:
        raise InputError("ages.jsonl: must be writable; got No space left on device")

    buffer = Buffer("drop-oldest", "eager", 8)
    with stopping(Receiver(parse_source("tcp://127.0.0.1:1"), buffer, tell=tell)) as receiver:
        assert buffer.take(120) is None
    assert receiver.error == "ages.jsonl: must be writable; got No space left on device"


def test_a_camera_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """There is none, or what has its name is none, or it is for others."""
    camera = tmp_path / "video0"
    assert asked_for_a_camera(camera) == "No such file or directory"
    camera.touch()
    assert asked_for_a_camera(camera) == "Inappropriate ioctl for device"
    camera.chmod(0)
    assert asked_for_a_camera(camera) == "Permission denied"


def asked_for_a_camera(path: Path) -> str:
    """Why a camera could not be read by somebody who may not read everybody's files."""
    program = """
import dataclasses, sys
from aosa_fast.streams.buffer import Buffer
from aosa_fast.streams.receiver import Receiver, find_wait
from aosa_fast.streams.source import parse_source

buffer = Buffer("drop-oldest", "eager", 8)
receiver = Receiver(dataclasses.replace(parse_source("camera:0"), address=sys.argv[1]), buffer, retries=0)
assert buffer.take() is None
print(receiver.error)
"""

    def give_up_privileges() -> None:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP; fails where there are none to give up

    done = subprocess.run(
        [sys.executable, "-P", "-c", program, path], capture_output=True, text=True, check=True,
        preexec_fn=give_up_privileges,
    )  # fmt: skip
    return done.stdout.strip()


def until(buffer: Buffer, wanted: Callable[[Frame], bool], seconds: float = 120) -> Frame:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frame = buffer.take(1)
        if frame is not None and wanted(frame):
            return frame
    raise AssertionError(f"no such frame in {seconds} s")


@pytest.fixture(params=["own", "gstreamer"])
def rtsp_program(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "own":
        return [sys.executable, "-P", str(MAKERS / "rtsp_server.py")]
    python = "/usr/bin/python3"
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not shutil.which(python) or subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip("needs GStreamer's RTSP server: apt-get install gstreamer1.0-rtsp gir1.2-gst-rtsp-server-1.0")
    return [python, str(MAKERS / "gstreamer_server.py")]


def test_an_rtsp_server_is_found_again_after_it_was_killed_and_stopped(rtsp_program: list[str]) -> None:
    """Killed, and started again with frames of another size; then stopped, so that it is silent, and let go on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said: list[str] = []
    name, buffer = f"rtsp://127.0.0.1:{port}/live", Buffer("drop-oldest", "eager", 8)
    with serving(rtsp_program, port, 64, 48) as server:
        receiver = Receiver(parse_source(name), buffer, timeout=4.0, tell=said.append)
        with stopping(receiver):
            assert until(buffer, lambda frame: True).image.shape == (48, 64, 3)
            server.kill()
            server.wait()
            with serving(rtsp_program, port, 96, 64) as other:
                until(buffer, lambda frame: frame.image.shape == (64, 96, 3))
                known, before = receiver.connections, len(said)
                other.send_signal(signal.SIGSTOP)
                wait_for(lambda: any("silent for 4 s" in text for text in said[before:]))
                other.send_signal(signal.SIGCONT)
                until(buffer, lambda frame: frame.connection >= known)
    assert said.count(f"{name}: there again") >= 2
    assert receiver.error is None


@contextmanager
def serving(program: list[str], port: int, width: int, height: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": str(MAKERS)}
    process = subprocess.Popen([*program, str(port), str(width), str(height)], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("missing.mp4", {}, r"^missing.mp4: must exist; there is no such file or folder$"),
        ("-", {}, r"^size must be given for raw frames on stdin, as 640x480; got none$"),
        ("-", {"size": "640"}, r"^size must be WIDTHxHEIGHT in pixels, as 640x480; got 640$"),
        ("rtsp://h/", {"size": "6x4"}, r"^size must be left out but for a camera, or raw frames on stdin; got 6x4 for"),
    ],
)
def test_a_source_that_cannot_be_is_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        parse_source(name, **options)


def test_what_a_name_means():
    camera = parse_source("camera:2", size="640x480")
    assert (camera.address, camera.format, camera.options) == ("/dev/video2", "v4l2", {"video_size": "640x480"})
    assert parse_source("/dev/video2").address == "/dev/video2"
    assert [parse_source(name).live for name in ("camera:0", "rtsp://h/", "udp://h:1")] == [True] * 3
    assert not parse_source(str(demo_clip_path())).live
    for password in ("pa55", "p@55", "p/55"):
        secret = parse_source(f"rtsp://me:{password}@camera:554/l@ve")
        assert secret.address == f"rtsp://me:{password}@camera:554/l@ve"
        assert (secret.name.startswith("rtsp://me:***@"), password in secret.name) == (True, False)
    assert secret.name != parse_source("rtsp://camera:554/l@ve").name == "rtsp://camera:554/l@ve"


def test_buffers_refuse_what_they_cannot_be():
    with pytest.raises(InputError, match=r"^policy must be one of wait, drop-oldest, drop-newest; got drop$"):
        Buffer("drop", "lazy", 1)
    with pytest.raises(InputError, match=r"^consume must be one of lazy, eager; got slow$"):
        Buffer("wait", "slow", 1)
    with pytest.raises(InputError, match=r"^queue must be at least 1; got 0$"):
        Buffer("wait", "lazy", 0)
