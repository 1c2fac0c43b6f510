from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aosa_fast.errors import VideoError
from aosa_fast.video import read_clip
from numbered_clips import damage, encode, write_intra


def shown(frames: np.ndarray) -> list[int]:
    return [round(image.mean() / 8) for image in frames]


@pytest.mark.parametrize("name", ["a.mp4", "a.h264"])
def test_damaged_frames_are_replaced_by_the_nearest(name: str, tmp_path: Path) -> None:
    path = write_intra(tmp_path / name, 30, {})
    damage(path, [10, 12, 13])
    with pytest.warns(UserWarning, match=r"^[^\n]*: 2 damaged frames were replaced") as warned:
        clip = read_clip(path, 5, stride=2, start=4, reader="pyav")
    assert len(warned) == 1
    assert clip.indices == (4, 6, 8, 10, 12)
    assert clip.replaced == (10, 12)
    # 9 and 11 are equally near to 10: the earlier one.
    assert shown(clip.frames) == [4, 6, 8, 9, 11]
    assert clip.total_frames == 30
    assert clip.damaged == (3 if name == "a.mp4" else 2)
    with pytest.warns(UserWarning, match="1 damaged frame was replaced"):
        first = read_clip(path, 3, start=10, reader="pyav", stride=4)
    assert (shown(first.frames), first.replaced) == ([11, 14, 18], (10,))


def test_clean_window_of_a_damaged_file_is_not_reported(tmp_path: Path) -> None:
    path = write_intra(tmp_path / "a.mp4", 30, {})
    damage(path, [10, 12, 13])
    clip = read_clip(path, 5, start=14, reader="pyav")
    assert shown(clip.frames) == [14, 15, 16, 17, 18]
    assert (clip.damaged, clip.replaced, clip.total_frames) == (0, (), 30)


@pytest.mark.parametrize("name", ["a.mp4", "a.h264"])
def test_nothing_but_damage_is_an_error(name: str, tmp_path: Path) -> None:
    path = write_intra(tmp_path / name, 8, {})
    damage(path, range(8))
    with pytest.raises(VideoError, match="must "):
        read_clip(path, 4, reader="pyav")


def test_file_cut_off_after_its_index_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_intra(tmp_path / "a.mp4", 30, {"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    clip = read_clip(path, 8, start=0, reader="pyav")
    assert shown(clip.frames) == list(range(8))
    with pytest.raises(VideoError, match=r"must have at least 8 frames from frame 24 on|must have a frame that can"):
        read_clip(path, 8, start=24, reader="pyav")


def test_changing_frame_size_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    parts = [[np.zeros((48, width, 3), np.uint8)] * 4 for width in (64, 96)]
    path.write_bytes(b"".join(encode(path, images, options={"qp": "0", "bf": "0"}).read_bytes() for images in parts))
    with pytest.raises(VideoError, match=r"must keep one frame size; got 64x48 and 96x48$"):
        read_clip(path, 8, reader="pyav")
    assert read_clip(path, 3, start=5, reader="pyav").frames.shape == (3, 48, 96, 3)


def test_real_damaged_clip(shared_data: Path) -> None:
    path = shared_data / "broken" / "corrupted.mp4"
    with pytest.warns(UserWarning, match="1 damaged frame was replaced"):
        whole = read_clip(path, 50, reader="pyav")
    assert (whole.total_frames, whole.damaged, whole.replaced) == (50, 1, (30,))
    assert np.array_equal(whole.frames[30], whole.frames[29])
    assert not np.array_equal(whole.frames[29], whole.frames[31])
    with pytest.warns(UserWarning, match="1 damaged frame was replaced"):
        stepped = read_clip(path, 4, stride=10, start=10)
    assert stepped.replaced == (30,)
    assert np.array_equal(stepped.frames[2], whole.frames[29])
    with pytest.raises(VideoError, match="must have a frame that can be decoded") as caught:
        read_clip(path, 1, start=30)
    assert caught.value.packets_bad == 1
