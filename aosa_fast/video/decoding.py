"""Decode the packets of a file: demuxed once where they are few, and without the pictures that nobody needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import av

from aosa_fast.video.opening import find_decoder, packets
from aosa_fast.video.skimming import skimming

MOST_KEPT = 1 << 24
"""Bytes of packets that are kept; a file with more is demuxed again from the key frame."""

Event = tuple[int | None, av.VideoFrame | None]
"""What leaves the decoder: time stamp and frame; (time stamp, None) for a damaged packet."""

if TYPE_CHECKING:
    Packet = av.Packet[av.VideoStream]


class Source:
    """An open file, whose decoder goes on from the first frame if that is where the wanted ones begin.

    Attributes:
        container, stream: see `open_video`.
        first: the first frame that left the decoder, once `scan` is done; None if there is none.
        left_out: time stamps of the pictures that the last `decode_from` left out.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        """Nothing is read yet."""
        self.container, self.stream = container, stream
        self.first: av.VideoFrame | None = None
        self.left_out: set[int] = set()
        self._decoder = find_decoder(stream)
        self._kept: list[Packet] = []
        self._begun: list[Event] = []  # of the first packets, so many:
        self._fed = 0

    def scan(self) -> Iterator[Packet]:
        """All packets; decodes no more than shows the first frame."""
        size, keep = 0, True
        with skimming(self.container, self.stream) as skim:
            for packet in packets(self.container, self.stream):
                size += packet.size
                keep = keep and size <= MOST_KEPT
                self._kept = self._kept if keep else []
                self._kept += [packet] if keep else []
                if self.first is None:
                    self._begun += _decode_packet(self._decoder, packet)
                    self._fed += 1
                    self.first = next((frame for _, frame in self._begun if frame), None)
                    if self.first is not None and skim():
                        keep = False  # what comes is without its content
                yield packet

    def decode(self) -> Iterator[Event]:
        """All that leaves the decoder, of a file that has just been opened."""
        return self._decode(packets(self.container, self.stream))

    def decode_from(self, key: int, last: int, wanted: Collection[int] | None = None) -> Iterator[Event]:
        """What leaves the decoder from the key frame stamped `key` on, after `scan`.

        Args:
            key: if the demuxer must seek it, an earlier one may do.
            last: stamp of the last frame that must be among it.
            wanted: stamps of the frames that are needed; pictures of H.264 behind the key frame that are not, and to
                which no other one refers, may be left out. None: nothing is.

        Raises:
            av.error.FFmpegError: the file cannot be wound there.
        """
        self.left_out, begun, fed = set(), self._begun, self._fed
        self._begun = []  # the decoder can go on once only
        if not self._kept:
            self.container.seek(key, stream=self.stream)
            return self.decode()
        start = next(i for i, packet in enumerate(self._kept) if packet.is_keyframe and packet.pts == key)
        end = 1 + max(i for i, packet in enumerate(self._kept) if packet.pts is not None and packet.pts <= last)
        if start or not begun:
            self._decoder.flush_buffers()
            begun, fed = [], start
        chosen = self._kept[fed:end]
        if wanted is not None and (length := _length_size(self.stream)):
            # Frames before the key frame tell whether decoding can begin there.
            behind = [(packet.pts, packet) for packet in chosen if packet.pts is not None and packet.pts > key]
            self.left_out = {pts for pts, packet in behind if pts not in wanted and _is_disposable(packet, length)}
            chosen = [packet for packet in chosen if packet.pts not in self.left_out]
        return chain(begun, self._decode([*chosen, None]))

    def _decode(self, chosen: Iterable[Packet | None]) -> Iterator[Event]:
        for packet in chosen:
            yield from _decode_packet(self._decoder, packet)


def _decode_packet(decoder: av.VideoCodecContext, packet: Packet | None) -> list[Event]:
    """What leaves the decoder at a packet, or None for the frames that it still holds back."""
    try:
        return [(frame.pts, frame) for frame in decoder.decode(packet)]
    except MemoryError:
        raise  # which says nothing about the packet
    except av.error.FFmpegError:
        return [(packet.pts if packet else None, None)]


def _length_size(stream: av.VideoStream) -> int:
    """Bytes of the length before each unit of a stream of H.264, as MP4 and Matroska hold it; 0 of any other."""
    header = stream.codec_context.extradata or b""
    return (header[4] & 3) + 1 if stream.codec_context.name == "h264" and len(header) > 4 and header[0] == 1 else 0


def _is_disposable(packet: Packet, length: int) -> bool:
    """Whether no other picture of H.264 refers to this one: its slices all say so (nal_ref_idc, 7.4.1)."""
    data, place, references = memoryview(packet), 0, []
    while place + length < len(data):
        head = data[place + length]
        references += [head >> 5 & 3] if 1 <= head & 31 <= 5 else []
        place += length + int.from_bytes(data[place : place + length], "big")
    return place == len(data) and bool(references) and not any(references)
