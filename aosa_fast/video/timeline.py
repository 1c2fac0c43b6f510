"""When each frame of a video file is shown, found without decoding where time stamps can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av

from aosa_fast.video.clip import DEFAULT_FPS
from aosa_fast.video.decoding import Source
from aosa_fast.video.pixels import AS_STORED, Display, find_display, has_alpha

# Containers that store when a frame is shown. Others (AVI, ASF, MXF, raw streams) store when it is decoded, and what
# FFmpeg derives from that is wrong for packed or reordered frames.
_STORE_PRESENTATION = ("mov", "matroska", "mpegts", "mpeg", "flv", "nut", "ogg")

# The longest packet of MPEG-4 that only says "as before", for which no frame is shown; a picture takes more.
_NOT_CODED = 8

# More frames than this are held back by no decoder: H.264 with the most layers of B-frames in use.
_MOST_HELD = 4


@dataclass(frozen=True)
class Timeline:
    """The frames of a file in the order in which they are shown.

    Attributes:
        stamps: what identifies each frame: its time stamp, ascending; or, if `by_order`, its running number among all
            that leaves the decoder, damaged packets included.
        times: seconds from the first frame.
        fps: average rate.
        keys: time stamps of the key frames from which decoding can begin, ascending; empty if `by_order`.
        by_order: packets do not tell which frame is shown when; only decoding from the start does. From `scan`, the
            number of frames and their times are then a guess.
        display: how frames are turned and mirrored to be shown.
        plain: upright but for quarter turns, 8 bits a channel, no transparency, and in an order that nobody can take
            for another one: every library shows the same frames.
    """

    stamps: tuple[int, ...]
    times: tuple[float, ...]
    fps: float
    keys: tuple[int, ...]
    by_order: bool = False
    display: Display = AS_STORED
    plain: bool = False


def scan(source: Source) -> Timeline:
    """Read the time stamps of all packets, and decode the first frame: where both agree, it is not `by_order`."""
    container, stream = source.container, source.stream
    pts: list[int | None] = []
    dts: list[int] = []
    keys: list[int] = []
    silent = False
    for packet in source.scan():
        if not packet.size or packet.is_discard:
            continue
        pts.append(packet.pts)
        dts += [] if packet.dts is None else [packet.dts]
        keys += [packet.pts] if packet.is_keyframe and packet.pts is not None else []
        silent |= stream.codec_context.name == "mpeg4" and packet.size <= _NOT_CODED
    first = source.first
    stamps = sorted(stamp for stamp in pts if stamp is not None)
    reorders = stream.codec_context.codec.reorder
    in_order = stamps == pts
    if len(set(stamps)) < len(pts) or first is None or first.pts != stamps[0] or silent:
        sure = False  # frames that share a stamp, have none, or of which the decoder leaves some out
    elif reorders:
        # A clock that goes back is that of another recording, appended to the first.
        sure = _stores_presentation(container) and dts == sorted(dts)
    else:
        sure = in_order
    display = find_display(first) if first else AS_STORED
    if not sure or first is None:
        return _even(stream, stamps, range(len(pts)), display)
    alpha = has_alpha(first)
    # Stamps that ascend in a stream that reorders its frames may be those of decoding: `pyav_reader` finds out.
    hidden = reorders and in_order and stream.codec_context.has_b_frames
    plain = not (alpha or display.is_mirrored or hidden)
    plain = plain and all(channel.bits <= 8 for channel in first.format.components)
    times, fps = _times(stream, stamps)
    # Transparency has key frames of its own.
    return Timeline(tuple(stamps), times, fps, () if alpha else tuple(sorted(keys)), display=display, plain=plain)


def explains(timeline: Timeline, stream: av.VideoStream, events: Sequence[int | None], lost: Collection[int]) -> bool:
    """Whether all that left the decoder, see `from_decoder`, is the timeline but for a few frames, which are damaged.

    Of other codecs packets may show nothing and be whole: those of VP8 that are only referred to.
    """
    shown = [stamp for number, stamp in enumerate(events) if number not in lost and stamp is not None]
    ascend = all(a < b for a, b in pairwise(shown))
    few = 2 * len(shown) > len(timeline.stamps)  # half of them: two packets are the fields of one frame
    known = not timeline.by_order and stream.codec_context.name in ("h264", "hevc")
    return known and ascend and few and set(shown) <= set(timeline.stamps)


def from_decoder(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    events: Sequence[int | None],
    lost: Collection[int],
) -> Timeline:
    """The timeline of a file that has been decoded whole.

    Args:
        container: the file.
        stream: its video.
        events: time stamps of all that left the decoder, in this order.
        lost: running numbers of those of them that are damaged packets.
    """
    shown = [stamp for number, stamp in enumerate(events) if number not in lost]
    known = {stamp for stamp in shown if stamp is not None}
    # A packet that reports damage may still become a frame.
    places = [number for number, stamp in enumerate(events) if number not in lost or stamp not in known]
    stamps = [stamp for number in places if (stamp := events[number]) is not None]
    ascend = len(known) == len(shown) and all(a < b for a, b in pairwise(shown) if a is not None and b is not None)
    distinct = len(set(stamps)) == len(places)
    # What FFmpeg derives where no time is stored is wrong for a damaged packet.
    if not ascend or not distinct or (lost and not _stores_presentation(container)):
        # Only of these codecs are stamps that do not ascend those of decoding, in which FFmpeg changes nothing.
        of_decoding = distinct and not ascend and stream.codec_context.name in ("h264", "hevc")
        return _even(stream, stamps, _move_lost(places, stamps, lost) if of_decoding else places)
    # The stamp of a damaged packet comes ahead of the frames that the decoder still holds back.
    order = sorted(range(len(places)), key=stamps.__getitem__)
    times, fps = _times(stream, sorted(stamps))
    return Timeline(tuple(places[i] for i in order), times, fps, (), by_order=True)


def _move_lost(places: list[int], stamps: list[int], lost: Collection[int]) -> list[int]:
    """Damaged packets behind the frames that the decoder held back when it met them, where stamps are of decoding.

    Most packets are of B-frames, each shown one frame sooner than it is decoded.
    """
    decoded = {places[i]: rank for rank, i in enumerate(sorted(range(len(places)), key=stamps.__getitem__))}
    moved = list(places)
    for number in reversed([number for number in places if number in lost]):
        at = moved.index(number)
        if 0 < decoded[number] - at <= _MOST_HELD:
            moved.insert(decoded[number] - 1, moved.pop(at))
    return moved


def _stores_presentation(container: av.container.InputContainer) -> bool:
    return container.format.name.split(",")[0] in _STORE_PRESENTATION


def _times(stream: av.VideoStream, stamps: Sequence[int]) -> tuple[tuple[float, ...], float]:
    """Seconds from the first frame, and frames a second, of ascending stamps."""
    base = float(stream.time_base or Fraction(1, 1000))
    return tuple((stamp - stamps[0]) * base for stamp in stamps), _rate(stream, stamps)


def _even(
    stream: av.VideoStream,
    clock: Collection[int],
    stamps: Sequence[int],
    display: Display = AS_STORED,
) -> Timeline:
    """The timeline of frames whose time stamps, the `clock`, are of no use one by one: taken as evenly spaced."""
    fps = _rate(stream, clock)
    times = tuple(i / fps for i in range(len(stamps)))
    return Timeline(tuple(stamps), times, fps, (), by_order=True, display=display)


def _rate(stream: av.VideoStream, clock: Collection[int]) -> float:
    """Frames a second: what the file says, or measured on the clock, or what FFmpeg guesses: in ASF, twice as many."""
    average, guessed = stream.average_rate, stream.guessed_rate
    seconds = (max(clock) - min(clock)) * float(stream.time_base or Fraction(1, 1000)) if clock else 0.0
    measured = (len(clock) - 1) / seconds if seconds > 0 else 0.0
    return next((float(rate) for rate in (average, measured, guessed) if rate and rate > 0), DEFAULT_FPS)
