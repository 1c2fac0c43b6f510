from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.video import atomic_path, read_clip, write_image, write_video
from audit_disk import short_files


def gradient(T: int = 6, H: int = 48, W: int = 64) -> np.ndarray:
    """Smooth frames with a different value in every channel, brighter from frame to frame."""
    y, x = np.mgrid[:H, :W]
    image = np.stack([40 + 100 * x / W, 60 + 100 * y / H, np.full((H, W), 50.0)], axis=-1)
    return np.stack([image + 10 * t for t in range(T)]).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".mkv", ".mov", ".webp", ".gif"])
@pytest.mark.parametrize("size", [(48, 64), (47, 65), (1, 1)])
def test_video_round_trip(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    frames = gradient(6, *size)
    path = tmp_path / "new" / "folder" / f"out{suffix}"
    write_video(path, frames, fps=8)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    clip = read_clip(path, 6, reader="pyav")
    H, W = size
    if suffix not in (".webp", ".gif"):
        assert clip.frames.shape[1:3] == (H + H % 2, W + W % 2)
        assert clip.fps == pytest.approx(8, rel=0.01)
    got = clip.frames[:, :H, :W].astype(int)
    assert got.shape == frames.shape
    assert np.abs(got - frames).mean() < 4
    assert np.abs(got.mean(axis=(1, 2)) - frames.mean(axis=(1, 2))).max() < 4


def test_odd_edges_are_repeated_not_black(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.full((2, 33, 31, 3), 200, np.uint8))
    assert read_clip(tmp_path / "a.mp4", 2).frames.min() > 190


def test_browsers_can_play_the_mp4(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gradient(), fps=12.5)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.5)
        assert stream.codec_context.colorspace == av.video.reformatter.Colorspace.SMPTE170M


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp"])
def test_image_round_trip(suffix: str, tmp_path: Path) -> None:
    image = gradient(1)[0]
    write_image(tmp_path / f"a{suffix}", image)
    with Image.open(tmp_path / f"a{suffix}") as file:
        got = np.asarray(file.convert("RGB")).astype(int)
    assert np.abs(got - image).max() <= (0 if suffix == ".png" else 12)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda folder: write_video(folder / "a.avi", gradient()),
            "a.avi: must end in one of .mp4, .mkv, .mov, .webp, .gif; got .avi",
        ),
        (
            lambda folder: write_image(folder / "a", gradient()[0]),
            "must end in one of .png, .jpg, .jpeg, .webp; got no",
        ),
        (lambda folder: write_video(folder / "a.mp4", gradient() / 255), "frames must be a uint8 array; got float64"),
        (lambda folder: write_video(folder / "a.mp4", [1]), "frames must be a uint8 array; got list"),  # type: ignore[arg-type]
        (lambda folder: write_video(folder / "a.mp4", gradient()[0]), "frames must have shape (T, H, W, 3)"),
        (lambda folder: write_video(folder / "a.mp4", gradient()[:0]), "none of it empty; got (0, 48, 64, 3)"),
        (lambda folder: write_image(folder / "a.png", gradient()), "image must have shape (H, W, 3)"),
        (
            lambda folder: write_video(folder / "a.mp4", gradient(), fps=0),
            "fps must be above 0 and at most 1000; got 0",
        ),
        (lambda folder: write_video(folder / "a.mp4", gradient(), fps=float("nan")), "fps must be above 0"),
        (lambda folder: write_image(folder / "a.webp", np.zeros((1, 20000, 3), np.uint8)), "a.webp: must be encodable"),
        (lambda folder: write_image(folder / "a.jpg", np.zeros((1, 70000, 3), np.uint8)), "a.jpg: must be "),
        (
            lambda folder: write_video(folder / "a.mp4", np.zeros((1, 2, 20000, 3), np.uint8)),
            "a.mp4: must be encodable",
        ),
        (lambda folder: write_image(folder / "a\0.png", gradient()[0]), "must be the name of a file"),
    ],
)
def test_what_cannot_be_written_is_named(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        write(tmp_path)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webp", "a.gif", "a.png", "a.jpg"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_full_disk_is_reported_and_leaves_the_old_file(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    frames = np.random.default_rng(0).integers(0, 255, (4, 128, 128, 3), dtype=np.uint8)

    def write() -> None:
        write_image(path, frames[0]) if name[2:] in ("png", "jpg") else write_video(path, frames)

    write()
    old = path.read_bytes()
    with (
        short_files(int(len(old) * share)),
        pytest.raises(InputError, match=rf"^[^\n]*{name}: must be writable; got File too large"),
    ):
        write()
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_full_disk_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for patched, write in (
        ("pathlib.Path.write_bytes", lambda: write_image(tmp_path / "a.png", gradient()[0])),
        ("os.fsync", lambda: write_video(tmp_path / "a.mp4", gradient())),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(patched, fail)
            with pytest.raises(InputError, match=r"a\.(png|mp4): must be writable; got No space left on device$"):
                write()
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_keeps_the_old_file_on_any_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == ".txt"
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_replaces_links_and_keeps_file_modes_usual(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    with atomic_path(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert not (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "link.txt").read_text() == "new"
    assert (tmp_path / "real" / "a.txt").read_text() == "old"
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "link.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (
        ("folder.png", "must be a file name; it is a folder"),
        ("pipe.png", "must be a file name; it is a device"),
        ("file/a.png", "must be writable; got "),
        ("x" * 300 + ".png", "got File name too long"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            write_image(tmp_path / name, gradient()[0])
        assert name in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc as a folder that nobody can write to")
def test_folder_that_refuses_is_named() -> None:
    with pytest.raises(InputError, match=r"^/proc/new/a\.png: must be writable; got [^\n]+$"):
        write_image("/proc/new/a.png", gradient()[0])
