"""Files whose time stamps do not say in which order frames are shown: the order of the decoder is the truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from aosa_fast.data.window import read_window
from aosa_fast.video import VideoClip, read_clip
from numbered_clips import B_FRAMES, Change, copy_packets, copy_stream, idle, pack, shown, write_clip

OPEN = B_FRAMES | {"x264-params": "open-gop=1:b-pyramid=normal"}
MPEG4 = {"g": "12", "bf": "1", "b_strategy": "0", "qscale": "2"}


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def check_every_window(path: Path) -> VideoClip:
    """Every single frame, windows with strides and the whole are what the decoder shows; returns the whole."""
    truth = decoded(path)
    total = len(truth)
    windows = [
        (0, total, 1),
        *((start, 1, 1) for start in range(total)),
        *((start, 3, 4) for start in range(total - 8)),
    ]
    for start, frames, stride in windows:
        clip = read_clip(path, frames, start=start, stride=stride)
        assert clip.indices == tuple(range(start, start + frames * stride, stride))
        assert np.array_equal(clip.frames, truth[start : start + frames * stride : stride])
        assert (clip.total_frames, clip.damaged, clip.replaced) == (total, 0, ())
    assert read_clip(path, 5).indices == tuple(range((total - 5) // 2, (total - 5) // 2 + 5))
    return read_clip(path, total, start=0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".nut"])
@pytest.mark.parametrize(
    ("codec", "groups"),
    [("libx264", B_FRAMES), ("libx264", OPEN), ("mpeg2video", MPEG4 | {"bf": "2", "g": "6"})],
    ids=["closed", "open", "mpeg2"],
)
def test_stamps_of_decoding_where_those_of_showing_belong(
    codec: str, groups: dict[str, str], suffix: str, tmp_path: Path
) -> None:
    if (codec, suffix) == ("mpeg2video", ".flv"):
        return  # not to be had
    source = write_clip(tmp_path / "source.mkv", 24, codec, options=groups)
    whole = check_every_window(copy_packets(source, tmp_path / f"a{suffix}"))
    assert shown(whole) == list(range(24))


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("change", [pack, idle])
def test_packets_that_hold_two_frames_or_none(change: Change, suffix: str, tmp_path: Path) -> None:
    options = MPEG4 if change is pack else MPEG4 | {"bf": "0", "g": "6"}
    source = write_clip(tmp_path / "source.avi", 24, "mpeg4", options=options)
    whole = check_every_window(copy_packets(source, tmp_path / f"a{suffix}", change))
    assert shown(whole) == list(range(24))


def test_parts_by_seconds_are_evenly_spaced(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 40, options=B_FRAMES)
    assert read_clip(path, 40, start=0).times == pytest.approx([i / 25 for i in range(40)])
    for start, first in ((0.4, 10), ("1s", 25), (1.57, 39)):
        assert shown(read_clip(path, 1, start=start)) == [first]
    part = read_window(str(path), 4, 2, 0.4, 1.0)
    assert (part.indices, shown(part)) == ((14, 16, 18, 20), [14, 16, 18, 20])
    # Its file names no rate, and FFmpeg guesses twice the right one.
    path = write_clip(tmp_path / "a.wmv", 40, "mpeg1video", options={"bf": "2"})
    assert shown(read_clip(path, 1, start=0.4)) == [10]


@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("shifts", [(0.5,), (-100,), (4.5, 50)])
def test_a_clock_that_goes_back_is_that_of_the_next_recording(
    shifts: tuple[float, ...], b_frames: str, tmp_path: Path
) -> None:
    options = B_FRAMES | {"bf": b_frames}
    recordings, numbers = b"", []
    for first, shift in enumerate((0, *shifts)):
        count = 6 if shift == 4.5 else 20
        stamps = [int(2 * (i + shift)) + 300 for i in range(count)]
        recordings += write_clip(
            tmp_path / "one.ts", count, options=options, stamps=stamps, first=40 * first
        ).read_bytes()
        numbers += range(40 * first, 40 * first + count)
    path = tmp_path / "a.ts"
    path.write_bytes(recordings)
    whole = check_every_window(path)
    assert shown(whole) == numbers
    assert np.diff(whole.times) == pytest.approx(whole.times[1])


@pytest.mark.parametrize(("suffix", "codec"), [(".ts", "mpeg2video"), (".mkv", "libx264")])
@pytest.mark.parametrize("cut", [3, None])
def test_frames_that_the_beginning_lacks_are_not_counted(
    cut: int | None, suffix: str, codec: str, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / f"source{suffix}", 40, codec, options=OPEN if codec == "libx264" else MPEG4)
    path = tmp_path / f"a{suffix}"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = copy_stream(old, new)
        packets = [packet for packet in old.demux(video=0) if packet.size]
        # From a frame that needs those before it on, or from the second key frame.
        second = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[cut or second :]:
            packet.stream = stream
            new.mux(packet)
    check_every_window(path)


HEVC = {"x265-params": "log-level=none:bframes=1:b-adapt=0:keyint=40:scenecut=0"}


@pytest.mark.parametrize(
    ("codec", "options", "name", "head"),
    [
        ("mpeg4", MPEG4, "a.avi", 0),
        ("libx264", B_FRAMES | {"g": "12"}, "a.avi", 0),
        ("libx265", HEVC, "a.mp4", 8),  # with its head, the decoder says nothing of it
    ],
)
def test_damage_is_replaced_and_moves_no_other_frame(
    codec: str, options: dict[str, str], name: str, head: int, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / name, 40, codec, options=options)
    with av.open(str(path)) as container:
        # Decoded behind a frame that is shown later; no other frame needs it.
        b_frame = [packet for packet in container.demux(video=0) if packet.size][20]
        pos, size = b_frame.pos, b_frame.size
    data = bytearray(path.read_bytes())
    data[pos + head : pos + size] = (b"\0" if head else b"\xff") * (size - head)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="1 damaged frame was replaced"):
        whole = read_clip(path, 40, start=0)
    assert (whole.damaged, whole.replaced) == (1, (19,))
    assert shown(whole) == [*range(19), 18, *range(20, 40)]
    clean = read_clip(path, 4, start=30)
    assert (shown(clean), clean.total_frames, clean.replaced) == ([30, 31, 32, 33], 40, ())


@pytest.mark.parametrize(("name", "total"), [("xvid_packed_bframes.avi", 164), ("h264_large_length.avi", 58)])
def test_real_clips(name: str, total: int, shared_data: Path) -> None:
    path = shared_data / "odd" / name
    truth = decoded(path)
    assert len(truth) == total
    for start, frames, stride in ((0, total, 1), (0, 1, 1), (21, 1, 1), (total - 1, 1, 1), (3, 8, 6), (40, 7, 1)):
        clip = read_clip(path, frames, start=start, stride=stride)
        assert np.array_equal(clip.frames, truth[start : start + frames * stride : stride])
        assert (clip.total_frames, clip.damaged) == (total, 0)
