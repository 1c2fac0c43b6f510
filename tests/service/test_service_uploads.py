"""What comes from outside: decoded as a file of one's own, or refused in one line; and the next one is decoded."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import read_views
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.settings import Limits
from aosa_fast.service.uploads import Decoders, Upload
from numbered_clips import write_clip, write_frames

PREPROCESSING = Preprocessing(4, 2, 32, (32, 32), (0.5,) * 3, (0.2,) * 3)
LIMITS = Limits(decoders=1, frames=50, seconds=2.0, megapixels=1.0, decode_timeout=20.0, timeout=60.0)


class Uploads:
    """Decoders, in an event loop of their own."""

    def __init__(self, limits: Limits, preprocessing: Preprocessing = PREPROCESSING) -> None:
        self.runner = asyncio.Runner()
        self.decoders = Decoders(preprocessing, limits)
        self.run(self.decoders.start())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def decode(self, path: Path, media: str = "application/octet-stream") -> Upload:
        return self.run(self.decoders.decode(path, media))

    def refusal(self, path: Path, media: str = "application/octet-stream") -> str:
        with pytest.raises(RequestError) as caught:
            self.decode(path, media)
        assert caught.value.status == 422
        assert str(path) not in caught.value.reason
        return caught.value.reason

    def close(self) -> None:
        self.run(self.decoders.close())
        self.runner.close()


@pytest.fixture(scope="module")
def uploads() -> Iterator[Uploads]:
    made = Uploads(LIMITS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 20)


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()  # nobody may have asked for its end
    except (FileNotFoundError, ProcessLookupError):
        return False


def animation(path: Path) -> Path:
    images = [Image.new("RGB", (40, 36), (i * 20, 0, 255 - i * 20)) for i in range(10)]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=40)
    return path


@pytest.mark.parametrize("make", [lambda folder: write_clip(folder / "0.mp4", 20), lambda f: animation(f / "1.gif")])
def test_an_upload_is_what_the_same_file_is_here_whatever_its_name(uploads, tmp_path, make):
    path = make(tmp_path)
    expected, pictures, display = read_views(path, PREPROCESSING, "center")
    upload = uploads.decode(path.rename(tmp_path / "upload"))
    np.testing.assert_array_equal(upload.pictures, pictures)
    np.testing.assert_array_equal(upload.display, display)
    assert upload.facts["frame_indices"] == list(expected.indices)
    assert upload.facts["frame_times"] == list(expected.times)
    assert upload.facts["total_frames"] == expected.total_frames


def test_frames_come_as_pictures_or_as_an_array(uploads, tmp_path):
    folder = write_frames(tmp_path / "frames", 9)
    files = sorted(folder.iterdir())
    expected = uploads.decode(folder, "multipart/form-data")
    assert expected.facts["frame_indices"] == [1, 3, 5, 7]
    np.save(tmp_path / "frames.npy", np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))
    upload = uploads.decode(tmp_path / "frames.npy", "application/x-npy")
    np.testing.assert_array_equal(upload.pictures, expected.pictures)
    assert upload.facts["frame_indices"] == [1, 3, 5, 7]


def claimed_png(path: Path, width: int, height: int) -> Path:
    """A PNG of this size, as its header says, with nothing in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b""))
    return path


def claimed_array(path: Path) -> Path:
    """An .npy file whose header claims far more than it holds."""
    with path.open("wb") as file:
        shape = (4, 800000, 80000, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return path


def text_of(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    return path


def neighbour(path: Path) -> Path:
    """A list of files, with the one beside it on it."""
    write_clip(path.with_name("other.mp4"), 8)
    return text_of(path, b"ffconcat version 1.0\nfile other.mp4\n")


def wide_animation(path: Path) -> Path:
    """A GIF of small frames, as its header says on a canvas of 65535x65535."""
    data = bytearray(animation(path).read_bytes())
    data[6:10] = b"\xff" * 4
    return text_of(path, bytes(data))


HOSTILE: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "empty": (lambda path: text_of(path, b""), "", "clip: must be a video file; it is empty"),
    "text": (lambda path: text_of(path, b"hello world\n" * 100), "", "cut off or in no known format"),
    "frames of a gigapixel": (lambda path: claimed_png(path, 30000, 30000), "", "must have frames of at most"),
    "frames on a vast canvas": (wide_animation, "", "must have frames of at most"),
    "other files": (neighbour, "", "got a list of other files, which are not opened"),
    "cut off": (
        lambda path: text_of(path, write_clip(path.with_suffix(".mp4"), 20).read_bytes()[:700]),
        "",
        "cut off or in no known format",
    ),
    "large frames": (
        lambda path: write_clip(path.with_suffix(".mp4"), 8, size=(1280, 1024)),
        "",
        "clip: must have frames of at most 1 megapixels; got 1280x1024",
    ),
    "many frames": (lambda path: write_clip(path.with_suffix(".mp4"), 51), "", "must have at most 50 frames; got 51"),
    "long": (
        lambda path: write_clip(path.with_suffix(".mp4"), 10, stamps=[*range(9), 25 * 9000]),
        "",
        "clip: must last at most 2 s; got 9000 s",
    ),
    "an array that is not there": (claimed_array, "application/x-npy", "clip: must be"),
    "an array of objects": (
        lambda path: (np.save(path.with_suffix(".npy"), np.array([{}]), allow_pickle=True), path.with_suffix(".npy"))[
            1
        ],
        "application/x-npy",
        "clip: must be",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_used_is_refused_in_one_line(uploads, tmp_path, case):
    make, media, rule = HOSTILE[case]
    before = uploads.decoders.pids
    reason = uploads.refusal(make(tmp_path / "upload"), media)
    assert rule in reason
    assert "\n" not in reason
    assert uploads.decoders.pids == before, "which is no reason for another process"


def hang(uploads: Uploads) -> int:
    """Stops the one process, as if something in it waited for ever."""
    (pid,) = uploads.decoders.pids
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_a_process_that_takes_too_long_costs_one_request(clip):
    uploads = Uploads(replace(LIMITS, decode_timeout=0.3))
    try:
        pid = hang(uploads)
        assert uploads.refusal(clip) == "clip: must be decodable in 0.3 s"
        assert uploads.decode(clip).pictures.shape == (4, 32, 32, 3)
        assert not is_running(pid)
    finally:
        uploads.close()


def test_a_process_that_is_killed_costs_one_request(uploads, clip):
    async def decode(pid: int) -> None:
        asyncio.get_running_loop().call_later(0.1, os.kill, pid, signal.SIGKILL)
        await uploads.decoders.decode(clip, "video/mp4")

    with pytest.raises(RequestError, match="clip: must be decodable; its decoder was ended by SIGKILL") as caught:
        uploads.run(decode(hang(uploads)))
    assert caught.value.status == 422
    assert uploads.decode(clip).pictures.shape == (4, 32, 32, 3)


def test_who_goes_away_ends_what_is_decoded_for_nobody(uploads, clip):
    async def leave() -> None:
        async with asyncio.timeout(0.1):
            await uploads.decoders.decode(clip, "video/mp4")

    pid = hang(uploads)
    with pytest.raises(TimeoutError):
        uploads.run(leave())
    assert uploads.decode(clip).pictures.shape == (4, 32, 32, 3)
    assert not is_running(pid)


def test_what_takes_too_much_memory_costs_one_request(tmp_path, clip):
    uploads = Uploads(replace(LIMITS, megapixels=9.0, decode_memory=32))
    try:
        large = write_clip(tmp_path / "large.mp4", 7, size=(2048, 1536))
        assert uploads.refusal(large) == "clip: must be decodable with 32 MiB of memory"
        assert uploads.decode(clip).pictures.shape == (4, 32, 32, 3)
    finally:
        uploads.close()


class Possessed(Preprocessing):
    """Of a process that a file has taken over: it says to the service what it wants."""

    says: bytes

    def crop_frames(self, frames: np.ndarray) -> np.ndarray:
        if frames.shape[1:3] == (48, 64):
            for descriptor in range(3, 10):
                with suppress(OSError):
                    os.write(descriptor, self.says)
        return super().crop_frames(frames)


def message(facts: str, size: int) -> bytes:
    return struct.pack("<II", len(facts), size) + facts.encode()


LIES = {
    "more than there may be": message('{"kind": "pictures"}', 2_000_000_000),
    "no facts": message("nothing", 0),
    "facts without end": message("[" * 50_000, 0),
    "other shapes": message('{"kind": "pictures"}', 4 * 32 * 32 * 3 - 1) + bytes(4 * 32 * 32 * 3 - 1),
    "shapes that are none": message('{"kind": "pictures"}', 4 * 32 * 32 * 3)
    + bytes(4 * 32 * 32 * 3)
    + message('{"kind": "display", "shape": [4, -1, -1, 3]}', 12),
    "an error in many lines": message('{"kind": "failed", "reason": "a\\nb"}', 0),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_that_a_process_says_is_taken_as_it_is(clip, lie):
    possessed = Possessed(**PREPROCESSING.__dict__)
    object.__setattr__(possessed, "says", LIES[lie])
    uploads = Uploads(replace(LIMITS, decode_timeout=3.0), possessed)
    try:
        reason = uploads.refusal(clip)
        assert reason in ("a b", "clip: must be decodable; its decoder sent no pictures") or "its decoder" in reason
        assert "\n" not in reason
    finally:
        uploads.close()


class Failing(Preprocessing):
    def crop_frames(self, frames: np.ndarray) -> np.ndarray:
        raise LookupError("mine")


def test_a_model_whose_preprocessing_fails_is_to_blame_and_not_the_clip(clip):
    uploads = Uploads(LIMITS, Failing(**PREPROCESSING.__dict__))
    try:
        with pytest.raises(
            RequestError, match=r"Failing.crop_frames must work .*; it raised LookupError: mine"
        ) as caught:
            uploads.decode(clip)
        assert caught.value.status == 500
    finally:
        uploads.close()


def test_what_is_decoded_as_the_service_ends_is_refused(clip):
    uploads = Uploads(LIMITS)

    async def close() -> None:
        hang(uploads)
        asyncio.get_running_loop().call_later(0.1, asyncio.ensure_future, uploads.decoders.close())
        await uploads.decoders.decode(clip, "video/mp4")

    assert uploads.decoders.ready
    with pytest.raises(OverloadedError):
        uploads.run(close())
    uploads.close()
    assert not uploads.decoders.ready
    assert uploads.decoders.pids == []


def test_a_preprocessing_that_no_process_can_have_is_told_at_the_start():
    class Local(Preprocessing): ...

    decoders = Decoders(Local(**PREPROCESSING.__dict__), LIMITS)
    with pytest.raises(InputError, match="a process that decodes must start; AttributeError"):
        asyncio.run(decoders.start())
    assert decoders.pids == []


def test_a_process_may_do_no_more_than_decoding_needs(uploads, clip):
    uploads.decode(clip)
    folder = Path(f"/proc/{uploads.decoders.pids[0]}")
    lines = (folder / "limits").read_text().splitlines()
    limits = {line[:26].strip(): line[26:].split()[1] for line in lines}
    assert [limits[f"Max {name}"] for name in ("file size", "core file size", "open files")] == ["0", "0", "16"]
    assert limits["Max address space"] != "unlimited"
    assert "NoNewPrivs:\t1" in (folder / "status").read_text()
    assert "torch" not in (folder / "maps").read_text()


ORPHANS = """
import asyncio, os, signal
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.service.settings import Limits
from aosa_fast.service.uploads import Decoders

async def main():
    decoders = Decoders(Preprocessing(1, 1, 8, (8, 8), (0.5,) * 3, (0.2,) * 3), Limits())
    await decoders.start()
    print(*decoders.pids, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_the_processes_end_with_a_service_that_is_killed():
    service = subprocess.run([sys.executable, "-P", "-c", ORPHANS], stdout=subprocess.PIPE, check=False)
    pids = [int(pid) for pid in service.stdout.split()]
    assert (service.returncode, len(pids)) == (-signal.SIGKILL, 2)
    until = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)
