"""Clips at addresses and in tar files: what is read of them, and how little."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import av
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile
from PIL import Image

from aosa_fast.data import Dataset, Sample, open_dataset
from aosa_fast.data.content import content_id
from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import read_clip
from numbered_clips import B_FRAMES, encode, number, numbered, write_clip
from small_nets import make_preprocessing


class Counted(MemoryFileSystem):
    """Files in memory that count the bytes that are asked for, as a store on the network would."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fetched: ClassVar[int] = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("counted://"))

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        return Ranges(self, path, mode, block_size) if mode == "rb" else super()._open(path, mode, **options)


class Ranges(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        data = self.fs.store[self.path].getvalue()[start:end]
        Counted.fetched += len(data)
        return data


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    fsspec.register_implementation("counted", Counted, clobber=True)
    for system in (Counted, MemoryFileSystem):
        system.store.clear()
    yield fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()


def same(one: Any, other: Any) -> bool:
    facts = ("indices", "times", "fps", "total_frames", "damaged", "replaced", "size")
    return np.array_equal(one.frames, other.frames) and all(getattr(one, f) == getattr(other, f) for f in facts)


@pytest.mark.parametrize("held", ["0", "3"], ids=["in order", "B-frames"])
def test_only_a_part_of_a_large_file_is_read(memory: MemoryFileSystem, tmp_path: Path, held: str):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(48)]
    options = {"qp": "0", "preset": "ultrafast", "g": "6", "bf": held}
    local = encode(tmp_path / "a.mp4", frames, "libx264", "yuv420p", options)
    size = local.stat().st_size
    assert size > 20e6
    fsspec.filesystem("counted").pipe("/clips/a.mp4", local.read_bytes())
    for start in ("center", 0, 40):
        Counted.fetched = 0
        clip = read_clip("counted://clips/a.mp4", 4, start=start)
        assert 4 / 48 * size < Counted.fetched < 0.6 * size
        assert same(clip, read_clip(local, 4, start=start))
    Counted.fetched = 0
    content_id("counted://clips/a.mp4")
    assert Counted.fetched == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.webm"])
def test_a_clip_at_an_address_is_the_same_clip(memory: MemoryFileSystem, tmp_path: Path, name: str):
    codec, options = ("libvpx-vp9", {"lossless": "1"}) if name == "a.webm" else ("libx264", B_FRAMES)
    local = write_clip(tmp_path / name, 40, codec=codec, options=options)
    memory.pipe(f"/clips/{name}", local.read_bytes())
    for start in ("center", 0, 1.0):
        clip, own = (read_clip(path, 3, stride=2, start=start) for path in (f"memory://clips/{name}", local))
        assert same(clip, own)


LAYOUTS = {
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "last.mp4": {},
    "first.mp4": {"movflags": "faststart"},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_frames_are_right_wherever_the_table_of_a_file_is(memory: MemoryFileSystem, tmp_path: Path, name: str):
    """Also those at its end, many of which fit into what is read at once."""
    local = tmp_path / name
    with av.open(str(local), "w", options=LAYOUTS[name]) as file:
        stream = file.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"qp": "0", "preset": "ultrafast", "g": "4"}
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(12)]
        for picture in [*pictures, *(numbered(i, 320, 240) for i in range(40))]:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    assert local.stat().st_size > 1 << 20
    memory.pipe(f"/{name}", local.read_bytes())
    for start in ("center", 2, 44, 48):
        assert same(read_clip(f"memory://{name}", 3, start=start), read_clip(local, 3, start=start))


def test_data_at_an_address(memory: MemoryFileSystem, tmp_path: Path):
    clip = write_clip(tmp_path / "a.mp4", 20).read_bytes()
    memory.pipe({"/set/run/a.mp4": clip, "/set/sit/b.mp4": clip, "/set/.hidden": b""})
    memory.pipe(
        "/clips.csv", f"path,label\nset/run/a.mp4,run\nmemory://set/sit/b.mp4,sit\n{tmp_path}/a.mp4,\n".encode()
    )
    folder = open_dataset("memory://set/")
    assert (folder.name, folder.class_names) == ("set", ("run", "sit"))
    assert [(sample.id, sample.path, sample.label) for sample in folder.samples] == [
        ("run/a.mp4", "memory://set/run/a.mp4", 0),
        ("sit/b.mp4", "memory://set/sit/b.mp4", 1),
    ]
    manifest = open_dataset("memory://clips.csv")
    assert manifest.name == "clips"
    paths = [sample.path for sample in manifest.samples]
    assert paths[1:] == ["memory://set/sit/b.mp4", f"{tmp_path}/a.mp4"]
    for dataset in (folder, manifest):
        for sample in dataset.samples[:2]:
            shown = dataset.read(sample, make_preprocessing(4))
            assert shown.indices.tolist() == [8, 9, 10, 11]
    (tmp_path / "here.csv").write_text("path,label\na.mp4,0\n")
    assert open_dataset(f"file://{tmp_path}/here.csv").samples[0].path == str(tmp_path / "a.mp4")


def test_the_content_of_an_address_is_told_by_its_mark(memory: MemoryFileSystem):
    memory.pipe("/a.mp4", b"one")
    before = content_id("memory://a.mp4")
    assert before == content_id("memory://a.mp4")
    assert len(before) == 32
    memory.pipe("/a.mp4", b"two")
    assert content_id("memory://a.mp4") != before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://none.mp4", "^memory://none.mp4: must exist; there is nothing at this address$"),
        ("memory://empty.mp4", r"^memory://empty.mp4: must be a video file; it is empty \(0 bytes\)$"),
        (
            "memory://text.mp4",
            "^memory://text.mp4: must be a video file, complete from its start; got data that is cut",
        ),
        ("nonsense://a/b.mp4", "^nonsense://a/b.mp4: must be an address that fsspec knows; .* not know nonsense://$"),
        ("dvc://a/b.mp4", "^dvc://a/b.mp4: must have the package for dvc://; it is missing: .*[Dd][Vv][Cc]"),
    ],
)
def test_what_is_wrong_with_an_address_is_one_line(memory: MemoryFileSystem, address: str, message: str):
    memory.pipe({"/empty.mp4": b"", "/text.mp4": b"text" * 100})
    dataset = Dataset("one", None, (Sample("a", address, None),))
    with pytest.raises(InputError, match=message) as caught:
        dataset.read(dataset.samples[0], make_preprocessing(4))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^memory://none: must (exist|be a folder)"):
        open_dataset("memory://none")
    with pytest.raises(InputError, match=r"^memory://none.csv: must exist; there is nothing at this address$"):
        open_dataset("memory://none.csv")


def test_an_image_at_an_address_is_read(memory: MemoryFileSystem, tmp_path: Path):
    Image.fromarray(numbered(5)).save(tmp_path / "a.png")
    memory.pipe("/a.png", (tmp_path / "a.png").read_bytes())
    assert number(read_clip("memory://a.png", 1).frames[0]) == 5
    memory.pipe("/b.png", b"no image")
    with pytest.raises(VideoError, match="must be an image in one piece"):
        read_clip("memory://b.png", 1)
