"""Read a window of frames with PyAV: seek near it, decode no more than needed, stand in for damaged frames."""

from __future__ import annotations

import bisect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import VideoError
from aosa_fast.video import timeline as tl
from aosa_fast.video.clip import VideoClip, Window

# Key frames tried before decoding from the start: in streams with open groups of pictures, or with wrong
# key frame flags, the nearest one may not be enough.
_SEEK_TRIES = 2


@dataclass
class _Take:
    """What one pass of decoding, from the key frame stamped `key` or from the start, brought."""

    key: int | None
    images: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)
    bad: int = 0
    clean_start: bool = True


def read(path: str, window: Window) -> VideoClip:
    """Read the frames of `window`, in presentation order.

    Raises:
        VideoError: the file cannot be opened, is too short, changes its frame size, or none of the wanted
            frames can be decoded.

    Warns:
        UserWarning: damaged frames were replaced by their nearest decodable neighbours.
    """
    timeline = tl.scan(path)
    take = None
    if timeline is not None:
        places = window.choose(path, timeline.times, timeline.fps)
        take = _take_by_stamp(path, timeline, places)
    if timeline is None or take is None:
        timeline = _decode_timeline(path)
        places = window.choose(path, timeline.times, timeline.fps)
        take = _take(path, timeline, places, None)
    stamps = [timeline.stamps[i] for i in places]
    lost = [i for i, stamp in zip(places, stamps, strict=True) if stamp not in take.images]
    if lost:
        _stand_in(path, timeline, places, take, lost)
    return VideoClip(
        frames=np.stack([take.images[stamp] for stamp in stamps]),
        indices=tuple(places),
        times=tuple(timeline.times[i] for i in places),
        fps=timeline.fps,
        total_frames=len(timeline.stamps),
        damaged=take.bad,
        replaced=tuple(lost),
        path=path,
        reader="pyav",
    )


def _take_by_stamp(path: str, timeline: tl.Timeline, places: list[int]) -> _Take | None:
    """Decode the wanted frames from a key frame before them; None if the time stamps prove wrong."""
    first, last = timeline.stamps[places[0]], timeline.stamps[places[-1]]
    expected = set(timeline.stamps[places[0] : places[-1] + 1])
    before = timeline.keys[: bisect.bisect_right(timeline.keys, first)]
    seeks = [key for key in before[::-1][:_SEEK_TRIES] if key > timeline.stamps[0]]
    for key in [*seeks, None]:
        take = _take(path, timeline, places, key)
        shown = {stamp for stamp in take.seen if first <= stamp <= last}
        # A missing frame is one that was damaged, or one that this start cannot deliver: count to tell.
        if take.clean_start and shown <= expected and len(expected - shown) <= take.bad:
            return take
    return None


def _take(path: str, timeline: tl.Timeline, places: list[int], key: int | None) -> _Take:
    """Decode from the key frame stamped `key`, or from the start, through the last wanted frame."""
    wanted = {timeline.stamps[i] for i in places}
    last = max(wanted)
    take = _Take(key)
    size = None
    with tl.open_video(path) as (container, stream):
        if key is not None:
            try:
                container.seek(key, stream=stream)
            except av.error.FFmpegError:
                take.clean_start = False
                return take
        for order, (pts, frame) in enumerate(_decode(container, stream)):
            stamp = order if timeline.by_order else pts
            if frame is None or (frame.is_corrupt and key is None):
                take.bad += 1
            elif stamp is not None:
                if key is not None and (frame.is_corrupt or not (take.seen or frame.key_frame)):
                    take.clean_start = False
                    return take
                take.seen.append(stamp)
                if stamp in wanted:
                    size = size or (frame.width, frame.height)
                    _check_size(path, frame, size)
                    take.images[stamp] = to_rgb(frame)
            # The stamp of a damaged packet comes ahead of the frames that the decoder still holds back.
            if stamp is not None and stamp >= last and (timeline.by_order or frame is not None):
                break
    return take


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[int | None, av.VideoFrame | None]]:
    """Time stamps and frames as they leave the decoder; (time stamp, None) for each damaged packet."""
    for packet in tl.packets(container, stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            yield packet.pts, None
        else:
            yield from ((frame.pts, frame) for frame in frames)


def _decode_timeline(path: str) -> tl.Timeline:
    """Decode the whole file once, keeping no frame, to learn which frames it shows."""
    with tl.open_video(path) as (container, stream):
        shown = [(pts, frame is not None) for pts, frame in _decode(container, stream)]
        if not any(decoded for _, decoded in shown):
            raise VideoError(path, "must have a frame that can be decoded; it has none", packets_bad=len(shown))
        stamps = {pts for pts, _ in shown if pts is not None}
        if len(stamps) < len(shown):
            return tl.build_by_order(stream, len(shown))
        return tl.build(stream, sorted(stamps), [])


def _stand_in(path: str, timeline: tl.Timeline, places: list[int], take: _Take, lost: list[int]) -> None:
    """Fill the lost places with the nearest decodable frames of the window, the earlier of two equally near."""
    place_of = {stamp: i for i, stamp in enumerate(timeline.stamps)}
    seen = sorted(place_of[stamp] for stamp in take.seen if stamp in place_of)
    usable = [i for i in seen if places[0] <= i <= places[-1]]
    if not usable:
        where = f"from frame {places[0]} to frame {places[-1]}"
        raise VideoError(path, f"must have a frame that can be decoded {where}; it has none", packets_bad=take.bad)
    nearest = {i: min(usable, key=lambda j: (abs(j - i), j)) for i in lost}
    between = sorted(j for j in set(nearest.values()) if timeline.stamps[j] not in take.images)
    if between:
        # A second pass is cheaper than holding every frame between the wanted ones for this rare case.
        take.images.update(_take(path, timeline, between, take.key).images)
    for i, j in nearest.items():
        take.images[timeline.stamps[i]] = take.images[timeline.stamps[j]]
    frames = "1 damaged frame was" if len(lost) == 1 else f"{len(lost)} damaged frames were"
    warnings.warn(f"{path}: {frames} replaced by the nearest decodable one", UserWarning, stacklevel=4)


def _check_size(path: str, frame: av.VideoFrame, size: tuple[int, int]) -> None:
    if (frame.width, frame.height) != size:
        got = f"{size[0]}x{size[1]} and {frame.width}x{frame.height}"
        raise VideoError(path, f"must keep one frame size; got {got}")


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the frame in RGB, transparency over black, turned as its rotation flag says."""
    alpha = any(component.is_alpha for component in frame.format.components)
    image: NDArray[Any] = frame.to_ndarray(format="rgba" if alpha else "rgb24")
    return np.rot90(over_black(image) if alpha else image, k=int(frame.rotation) % 360 // 90)


def over_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: an (H, W, 4) RGBA image laid over black."""
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
