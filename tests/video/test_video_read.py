from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from aosa_fast.errors import InputError
from aosa_fast.video import read_clip
from numbered_clips import FORMATS, LOSSLESS, counted_decodes, encode, numbered, set_matrix, shown, write_clip

ORIENTATIONS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("case", FORMATS)
def test_every_start_and_stride_gives_the_numbered_frames(case: str, tmp_path: Path) -> None:
    name, codec, pix_fmt, options, size = FORMATS[case]
    path = write_clip(tmp_path / name, 40, codec, pix_fmt, options, size)
    whole = read_clip(path, 40, reader="pyav")
    assert shown(whole) == list(range(40))
    assert whole.frames.dtype == np.uint8
    assert whole.frames.shape == (40, size[1], size[0], 3)
    assert whole.times == pytest.approx([i / 25 for i in range(40)], abs=1e-3)
    assert whole.fps == pytest.approx(25)
    for start, stride in [(s, 1) for s in range(0, 37, 3)] + [(s, 5) for s in range(0, 25, 4)]:
        clip = read_clip(path, 4, start=start, stride=stride, reader="pyav")
        wanted = range(start, start + 4 * stride, stride)
        assert clip.indices == tuple(wanted)
        assert shown(clip) == list(wanted)
        assert np.array_equal(clip.frames, whole.frames[start : start + 4 * stride : stride])
        assert clip.times == tuple(whole.times[i] for i in wanted)
        assert (clip.total_frames, clip.damaged, clip.replaced) == (40, 0, ())


def test_variable_rate_is_indexed_by_order_and_searched_by_time(tmp_path: Path) -> None:
    stamps = [i * i for i in range(16)]
    path = write_clip(tmp_path / "a.mp4", 16, options=LOSSLESS | {"g": "4"}, stamps=stamps)
    clip = read_clip(path, 4, stride=3, start=2, reader="pyav")
    assert shown(clip) == [2, 5, 8, 11]
    assert clip.times == pytest.approx([stamps[i] / 25 for i in (2, 5, 8, 11)])
    assert clip.fps == pytest.approx(15 / 9, rel=0.2)
    # Frame 5 is shown at 1.0 s and frame 6 at 1.44 s.
    for seconds, first in ((0.0, 0), (1.0, 5), (1.21, 5), (1.23, 6), ("1.44s", 6), ("9s", 15)):
        assert read_clip(path, 1, start=seconds, reader="pyav").indices == (first,)


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_turned_and_mirrored_frames_are_shown_as_players_do(matrix: tuple[int, ...], tmp_path: Path) -> None:
    a, b, c, d = matrix
    path = write_clip(tmp_path / "a.mp4", 4)
    stored = read_clip(path, 1, start=3).frames[0]
    y, x = np.mgrid[:48, :64]
    right, down = a * x + c * y, b * x + d * y
    upright = np.zeros((64, 48, 3) if b else (48, 64, 3), np.uint8)
    upright[down - down.min(), right - right.min()] = stored
    clip = read_clip(set_matrix(path, a, b, c, d), 1, start=3)
    assert np.array_equal(clip.frames[0], upright)
    assert clip.size == upright.shape[:2]


def test_colours_are_rgb(tmp_path: Path) -> None:
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    path = encode(tmp_path / "a.mkv", [image], "ffv1", "bgr0", {})
    assert np.array_equal(read_clip(path, 1).frames[0], image)


def test_transparency_lies_over_black(tmp_path: Path) -> None:
    image = np.full((16, 16, 4), (200, 100, 50, 128), np.uint8)
    image[8:, :, 3] = 0
    frame = read_clip(encode(tmp_path / "a.mov", [image], "qtrle", "argb", {}), 1).frames[0]
    assert frame[0, 0].tolist() == [100, 50, 25]
    assert frame[15, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_transparency_of_vp8_and_vp9_lies_over_black(codec: str, suffix: str, tmp_path: Path) -> None:
    images = [np.dstack([numbered(i), np.full((48, 64), 255, np.uint8)]) for i in range(12)]
    for image in images:
        image[:, 40:] = (200, 200, 200, 0)
    path = encode(tmp_path / f"a{suffix}", images, codec, "yuva420p", {"auto-alt-ref": "0", "g": "4"})
    clip = read_clip(path, 3, start=6, reader="pyav")
    assert shown(clip) == [6, 7, 8]  # below 2^5: the bars that are left are enough
    assert clip.frames[:, :, 44:].max() < 20


def test_titles_in_any_encoding_do_not_matter(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "libx264"), ("a.avi", "mjpeg")):
        pix_fmt, options = ("yuvj420p", {}) if codec == "mjpeg" else ("yuv420p", LOSSLESS)
        path = write_clip(tmp_path / name, 12, codec, pix_fmt, options, metadata={"title": "Cafe in many ways"})
        data = path.read_bytes()
        assert data.count(b"Cafe in") == 1
        for title in (b"Caf\xe9 in", b"\x83J\x83t\x83F.", b"\xff\xfe\x00\xd8\x80\x81\x82"):
            path.write_bytes(data.replace(b"Cafe in", title))
            assert shown(read_clip(path, 4, start=3)) == [3, 4, 5, 6]


@pytest.mark.parametrize("case", ["h264 b-frames", "h264 in a transport stream", "mjpeg avi"])
def test_only_what_is_needed_is_decoded(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, codec, pix_fmt, options, size = FORMATS[case]
    path = write_clip(tmp_path / name, 200, codec, pix_fmt, options, size)
    with counted_decodes(monkeypatch) as passes:
        clip = read_clip(path, 4, start=150, reader="pyav")
    assert shown(clip) == [150, 151, 152, 153]
    assert sum(passes) <= 12


def test_pictures_that_nobody_needs_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, options={"g": "60", "bf": "3", "b_strategy": "0"})
    whole = read_clip(path, 60, reader="pyav")
    for start in range(4):
        with counted_decodes(monkeypatch) as passes:
            clip = read_clip(path, 4, start=start, stride=14, reader="pyav")
        assert np.array_equal(clip.frames, whole.frames[start : start + 56 : 14])
        assert (shown(clip), clip.damaged) == (list(clip.indices), 0)
        assert sum(passes) < 0.7 * (start + 44)  # half of them are referred to


def test_packets_too_many_to_keep_are_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, options={"g": "10", "bf": "2"})
    kept = read_clip(path, 40, reader="pyav").frames
    monkeypatch.setattr("aosa_fast.video.decoding.MOST_KEPT", path.stat().st_size // 2)
    for start in range(36):
        with counted_decodes(monkeypatch) as passes:
            clip = read_clip(path, 4, start=start, reader="pyav")
        assert np.array_equal(clip.frames, kept[start : start + 4])
        assert sum(passes) < 20


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_false_key_frame_flags_are_noticed(codec: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, codec, options={"g": "20", "bf": "0"})
    data = path.read_bytes()
    assert data.count(b"stss") == 1
    # Without its list of key frames, an MP4 file says that every frame is one.
    path.write_bytes(data.replace(b"stss", b"free"))
    whole = read_clip(path, 40, reader="pyav")
    assert shown(whole) == list(range(40))
    for start in range(37):
        clip = read_clip(path, 3, start=start, reader="pyav")
        assert np.array_equal(clip.frames, whole.frames[start : start + 3])


def test_frames_cut_away_by_an_edit_list_do_not_count(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, options=LOSSLESS | {"g": "10"})
    data = bytearray(path.read_bytes())
    media_time = data.index(b"elst") + 16
    with av.open(str(path)) as container:
        per_frame = int(1 / (25 * container.streams.video[0].time_base))
    data[media_time : media_time + 4] = (5 * per_frame).to_bytes(4, "big")
    path.write_bytes(data)
    clip = read_clip(path, 35, start=0, reader="pyav")
    assert (shown(clip), clip.total_frames) == (list(range(5, 40)), 35)
    assert shown(read_clip(path, 2, start=11, reader="pyav")) == [16, 17]


def test_repeated_time_stamps_are_counted_in_order(tmp_path: Path) -> None:
    # Matroska rounds time stamps to milliseconds, so that each is given to four of these frames.
    path = encode(tmp_path / "a.mkv", [numbered(i) for i in range(20)], "ffv1", "gray", {}, rate=4000)
    clip = read_clip(path, 5, start=3, stride=3, reader="pyav")
    assert (shown(clip), clip.indices, clip.total_frames) == ([3, 6, 9, 12, 15], (3, 6, 9, 12, 15), 20)


def test_start_is_centered_by_default(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 21)
    assert read_clip(path, 4, stride=2).indices == (7, 9, 11, 13)
    assert read_clip(path, 4).indices == (8, 9, 10, 11)
    assert read_clip(path, 21, start="Center").indices == tuple(range(21))
    assert read_clip(path, 2, start="12").indices == (12, 13)
    assert read_clip(path, 2, start=np.int64(12)).indices == (12, 13)
    assert read_clip(path, 2, start="0.4s").indices == (10, 11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 32}, "a.mp4: must have at least 32 frames; got 21"),
        ({"frames": 12, "start": 10}, "a.mp4: must have at least 12 frames from frame 10 on; got 11"),
        ({"frames": 1, "start": 30}, "a.mp4: must have at least 1 frame from frame 30 on; got 0"),
        ({"frames": 8, "stride": 4}, "a.mp4: must have at least 29 frames for 8 frames with stride 4; got 21"),
        ({"frames": 12, "start": 0.4}, "a.mp4: must have at least 12 frames from 0.4 s (frame 10) on; got 11"),
        ({"frames": 1, "start": "3s"}, "a.mp4: must reach 3 s; got a last frame at 0.8 s"),
        ({"frames": 0}, "frames must be at least 1; got 0"),
        ({"frames": 1.5}, "frames must be a whole number; got 1.5"),
        ({"frames": True}, "frames must be at least 1; got True"),
        ({"frames": 1, "stride": -1}, "stride must be at least 1; got -1"),
        ({"frames": 1, "start": -1}, "not negative; got -1"),
        ({"frames": 1, "start": float("nan")}, "not negative; got nan"),
        ({"frames": 1, "start": "1.5"}, "seconds like \"1.5s\"; got '1.5'"),
        ({"frames": 1, "start": "s"}, "start must be"),
        ({"frames": 1, "start": None}, "start must be"),
        ({"frames": 1, "reader": "cv2"}, "reader must be one of auto, pyav, torchcodec; got 'cv2'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 21)
    with pytest.raises(InputError) as caught:
        read_clip(path, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_real_clips_match_a_full_decode(shared_data: Path) -> None:
    for name, total in (("arm_wrestling.mp4", 280), ("flipping_pancake.mkv", 310)):
        path = shared_data / "kinetics" / name
        with av.open(str(path)) as container:
            whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        for start, stride in ((0, 1), (117, 2), (total - 16, 1), ("center", 8)):
            clip = read_clip(path, 16, start=start, stride=stride, reader="pyav")
            assert clip.total_frames == total == len(whole)
            assert np.array_equal(clip.frames, np.stack([whole[i] for i in clip.indices]))


def test_real_rotated_and_unordered_clips(shared_data: Path) -> None:
    path = shared_data / "broken" / "video_90.mov"
    clip = read_clip(path, 3, reader="pyav")
    assert clip.frames.shape == (3, 568, 320, 3)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    # The flag says -90 degrees: the first column from below is the first row of the upright picture.
    assert np.array_equal(clip.frames[0][0], stored[::-1, 0])
    unordered = read_clip(shared_data / "broken" / "unordered.mov", 4, reader="pyav")
    assert unordered.times == pytest.approx([i / 32 for i in range(4)])
