from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from aosa_fast.errors import InputError, VideoError
from aosa_fast.video import read_clip, torchcodec_reader
from aosa_fast.video.read import READERS
from numbered_clips import shown, write_clip


def _audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _cut(path: Path) -> None:
    data = write_clip(path).read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    path.write_bytes(data[: data.index(b"moov")])


BROKEN = {
    "missing": (lambda path: None, "must exist"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty (0 bytes)"),
    "junk": (lambda path: path.write_bytes(bytes(range(256)) * 20), "no known format"),
    "text": (lambda path: path.write_text("no video\n" * 50), "must "),
    "cut off before its index": (_cut, "cut off"),
    "audio only": (_audio, "has no video stream"),
    "link to nothing": (lambda path: path.symlink_to("nowhere.mp4"), "must exist"),
    "link to itself": (lambda path: path.symlink_to(path), "must exist"),
    "pipe": (lambda path: os.mkfifo(path), "must be a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "must be a regular file"),
    "folder without images": (lambda path: path.mkdir(), "must hold images"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named_in_one_line(
    case: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reader == "torchcodec" and torchcodec_reader.find_decoder() is None:
        monkeypatch.setattr(torchcodec_reader, "find_decoder", lambda: object)
    make, message = BROKEN[case]
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(VideoError, match=r"^[^\n]*$") as caught:
        read_clip(path, 4, reader=reader)
    assert str(caught.value).startswith(f"{path}: must ")
    assert message in str(caught.value)
    assert caught.value.path == str(path)


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 4)

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    # In place of file modes, which do not stop the superuser.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(VideoError, match=r"a\.mp4: must be readable; got Permission denied$"):
        read_clip(path, 4)


def test_names_that_look_like_addresses_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("a.mp4"), 4)
    shutil.copy("a.mp4", "take:1 %03d ü.mp4")
    assert shown(read_clip("take:1 %03d ü.mp4", 4, reader="pyav")) == [0, 1, 2, 3]
    for name in ("concat:a.mp4|a.mp4", "http:localhost/a.mp4"):
        with pytest.raises(VideoError, match="must exist"):
            read_clip(name, 4)
    for name in ("", "a\0b", b"a.mp4"):
        with pytest.raises(InputError, match="path must be the name of a file or folder"):
            read_clip(name, 4)  # type: ignore[arg-type]
