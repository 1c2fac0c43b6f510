"""Read a window of frames with PyAV: seek near it, decode no more than needed, stand in for damaged frames."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from aosa_fast.errors import VideoError
from aosa_fast.video import timeline as tl
from aosa_fast.video.clip import ANY, Bounds, Convert, Fit, VideoClip, Window, check_pixels, join_frames
from aosa_fast.video.decoding import Event, Source
from aosa_fast.video.opening import open_video
from aosa_fast.video.pixels import AS_STORED, Display, to_rgb

# Key frames tried before decoding from the start: in streams with open groups of pictures, or with wrong
# key frame flags, the nearest one may not be enough.
_SEEK_TRIES = 2


@dataclass
class _Take:
    """What one pass of decoding brought; stamps as in `Timeline`.

    Attributes:
        images: the wanted frames, converted.
        size: (H, W) of these, before.
        seen: stamps of the frames, as they left the decoder.
        lost: stamps of damaged packets and frames.
        events: time stamps of all of these.
        left_out: stamps of pictures that were not decoded, as nobody needs them.
        sound: frames came in the order of their stamps, from an undamaged key frame on where it began at one.
    """

    images: dict[int, NDArray[Any]] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    seen: list[int] = field(default_factory=list)
    lost: list[int | None] = field(default_factory=list)
    events: list[int | None] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)
    sound: bool = True


def read(path: str, window: Window, convert: Convert | None = None, fit: Fit | None = None) -> VideoClip:
    """Read the frames of `window`, in the order in which they are shown.

    Args:
        path: of a video file.
        window: which frames.
        convert: what is kept of each frame; None: all of it.
        fit: to what size each frame is scaled, as its colours are converted; None: its own.

    Raises:
        VideoError: the file cannot be opened, is too short, has too large frames, changes their size, or none of the
            wanted frames can be decoded.
    """
    return _Reader(path, convert, fit, window.bounds).read(window)


@dataclass
class _Reader:
    path: str
    convert: Convert | None
    fit: Fit | None
    bounds: Bounds = ANY
    display: Display = AS_STORED
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def read(self, window: Window) -> VideoClip:
        with open_video(self.path, self.bounds) as video:
            if self.fit:  # for one of many clips, which are read side by side
                video[1].codec_context.thread_count = 1
            source = Source(*video)
            timeline = tl.scan(source)
            window.bounds.check_length(self.path, len(timeline.stamps), max(timeline.times, default=0.0))
            self.display = timeline.display
            take = None
            if not timeline.by_order:
                places = window.choose(self.path, timeline.times, timeline.fps)
                take = self._take_by_stamp(source, timeline, places)
        if take is None:
            timeline, places, take = self._take_by_order(window, timeline)
        stamps = [timeline.stamps[i] for i in places]
        replaced = [i for i, stamp in zip(places, stamps, strict=True) if stamp not in take.images]
        if replaced:
            self._stand_in(timeline, places, take, replaced)
        assert take.size is not None
        frames = join_frames([take.images.pop(stamp) for stamp in stamps])
        times, fps, lost = timeline.times, timeline.fps, len(take.lost)
        return VideoClip.of(frames, take.size, places, times, fps, self.path, "pyav", lost, replaced)

    def _take_by_stamp(self, source: Source, timeline: tl.Timeline, places: list[int]) -> _Take | None:
        """Decode the wanted frames from a key frame before them; None if the time stamps prove wrong."""
        wanted = {timeline.stamps[i] for i in places}
        # One more: leading frames that a key frame cannot show would otherwise be missed without a trace.
        last = timeline.stamps[min(places[-1] + 1, len(timeline.stamps) - 1)]
        before = timeline.keys[: bisect.bisect_right(timeline.keys, min(wanted))]
        for key in before[::-1][:_SEEK_TRIES]:
            try:
                events = source.decode_from(key, last, wanted if timeline.plain else None)
            except av.error.FFmpegError:
                continue
            take = self._take(events, wanted, last, key)
            take.left_out = source.left_out
            # Damage is read from the start: what FFmpeg puts in its place depends on the frames before.
            if (
                take.seen
                and take.seen[0] <= min(wanted)
                and not take.lost
                and _agrees(take, timeline, take.seen[0], last)
            ):
                return take
        take = self._take_from_start(wanted, last)
        return take if _agrees(take, timeline, timeline.stamps[0], last) else None

    def _take_by_order(self, window: Window, guess: tl.Timeline) -> tuple[tl.Timeline, list[int], _Take]:
        """Decode the whole file to learn which frames it shows, and keep those that are wanted."""
        try:
            places = window.choose(self.path, guess.times, guess.fps)
        except VideoError:
            places = []  # the decoder may bring more frames than the packets announce
        with open_video(self.path, self.bounds) as video:
            take = self._take(Source(*video).decode(), set(places), None, by_order=True)
            lost = {number for number in take.lost if number is not None}
            if tl.explains(guess, video[1], take.events, lost):
                return self._take_what_is_left(window, guess)
            timeline = tl.from_decoder(*video, take.events, lost)
        if not take.seen:
            bad = len(take.lost)
            raise VideoError(self.path, "must have a frame that can be decoded; it has none", packets_bad=bad)
        places = window.choose(self.path, timeline.times, timeline.fps)
        wanted = {timeline.stamps[i] for i in places}
        if wanted.isdisjoint(take.images) or not wanted.issubset({*take.images, *take.lost}):
            take = self._take_from_start(wanted, max(wanted), by_order=True)
        take.lost = [number for number in take.lost if number is not None and number <= max(wanted)]
        return timeline, places, take

    def _take_what_is_left(self, window: Window, timeline: tl.Timeline) -> tuple[tl.Timeline, list[int], _Take]:
        """Decode by stamps a file some of whose frames the decoder leaves out without a word, as damaged."""
        places = window.choose(self.path, timeline.times, timeline.fps)
        wanted = {timeline.stamps[i] for i in places}
        take = self._take_from_start(wanted, max(wanted))
        take.lost = [stamp for stamp in timeline.stamps if stamp <= max(wanted) and stamp not in take.seen]
        return timeline, places, take

    def _take_from_start(self, wanted: set[int], last: int, by_order: bool = False) -> _Take:
        # Opened anew: not every format can be wound back to its first frame.
        with open_video(self.path, self.bounds) as video:
            return self._take(Source(*video).decode(), wanted, last, by_order=by_order)

    def _take(
        self,
        events: Iterator[Event],
        wanted: set[int],
        last: int | None,
        key: int | None = None,
        by_order: bool = False,
    ) -> _Take:
        """Decode from the key frame stamped `key`, or from the start, through `last` or to the end."""
        take = _Take()
        for number, (pts, frame) in enumerate(events):
            take.events.append(pts)
            stamp = number if by_order else pts
            if frame is None or (frame.is_corrupt and key is None):
                take.lost.append(stamp)
            elif stamp is not None:
                broken = key is not None and (frame.is_corrupt or not (take.seen or frame.key_frame))
                if broken or (take.seen and stamp <= take.seen[-1]):
                    take.sound = False
                    return take
                take.seen.append(stamp)
                if stamp in wanted:
                    self._keep(take, stamp, frame, len(wanted))
            # The stamp of a damaged packet comes ahead of the frames that the decoder still holds back.
            if last is not None and stamp is not None and stamp >= last and (by_order or frame is not None):
                break
        return take

    def _keep(self, take: _Take, stamp: int, frame: av.VideoFrame, count: int) -> None:
        check_pixels(self.path, frame.height, frame.width, count if self.convert is None else 1, self.bounds)
        size = self.display.shown(frame)
        if take.size and take.size != size:
            got = f"{take.size[1]}x{take.size[0]} and {size[1]}x{size[0]}"
            raise VideoError(self.path, f"must keep one frame size; got {got}")
        take.size = size
        image = to_rgb(frame, self.display, self.fit(*size) if self.fit else size, self.reformatter)
        take.images[stamp] = image if self.convert is None else self.convert(image)

    def _stand_in(self, timeline: tl.Timeline, places: list[int], take: _Take, replaced: list[int]) -> None:
        """Fill these places with the nearest decodable frames of the window, the earlier of two equally near."""
        place_of = {stamp: i for i, stamp in enumerate(timeline.stamps)}
        seen = sorted(place_of[stamp] for stamp in take.seen if stamp in place_of)
        usable = [i for i in seen if places[0] <= i <= places[-1]]
        if not usable:
            where = f"from frame {places[0]} to frame {places[-1]}"
            bad = len(take.lost)
            raise VideoError(self.path, f"must have a frame that can be decoded {where}; it has none", packets_bad=bad)
        nearest = {i: min(usable, key=lambda j: (abs(j - i), j)) for i in replaced}
        between = {timeline.stamps[j] for j in nearest.values()}.difference(take.images)
        if between:
            # A second pass is cheaper than holding every frame between the wanted ones for this rare case.
            more = self._take_from_start(between, max(between), timeline.by_order)
            take.images.update(more.images)
            take.size = take.size or more.size
        for i, j in nearest.items():
            take.images[timeline.stamps[i]] = take.images[timeline.stamps[j]]


def _agrees(take: _Take, timeline: tl.Timeline, first: int, last: int) -> bool:
    """Whether a take showed the frames stamped `first` to `last` in the timeline's order, but for damaged ones.

    Where stamps are those of decoding, frames that were reordered come out of order, or seem to be missing.
    """
    if not take.sound:
        return False
    stamps = timeline.stamps
    expected = set(stamps[bisect.bisect_left(stamps, first) : bisect.bisect_right(stamps, last)]) - take.left_out
    shown = {stamp for stamp in take.seen if stamp <= last}
    return shown <= expected and len(expected - shown) <= len(take.lost)
