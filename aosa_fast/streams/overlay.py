"""The frames of a stream as people see them: with the map over them, and how old they are written on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aosa_fast.explanation import Explanation
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import shrunk
from aosa_fast.streams.buffer import Frame
from aosa_fast.video.drawing import PAPER, font, write_line
from aosa_fast.video.overlay import color_limit, render_overlay


@dataclass(frozen=True, eq=False)
class Painted:
    """A frame with its map.

    Attributes:
        image: (H, W, 3) uint8.
        stamp: as in `Frame`.
        time: likewise.
        text: what is explained.
    """

    image: NDArray[np.uint8]
    stamp: float
    time: float | None
    text: str

    def labelled(self, age: float) -> NDArray[np.uint8]:
        """(H2, W, 3) uint8: the picture, and above it what is explained, and how old the frame is, in seconds."""
        height, width = self.image.shape[:2]
        size = max(12, height // 24)
        band = size + size // 2
        picture = Image.new("RGB", (width, height + band))
        picture.paste(Image.fromarray(self.image), (0, band))
        draw = ImageDraw.Draw(picture)
        delay = f"{age:.2f} s behind"
        wide = draw.textlength(delay, font=font(size)) + size // 3
        write_line(draw, (size // 3, size // 6), self.text, size, width - wide - size, PAPER)
        write_line(draw, (width - wide, size // 6), delay, size, wide, PAPER)
        return np.asarray(picture)


class Painter:
    """Keeps the newest frames as pictures, until their map is there."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._kept: dict[int, tuple[NDArray[np.uint8], float, float | None]] = {}
        self._shown = -1

    def keep(self, number: int, frame: Frame) -> None:
        """Keeps what the model sees of a frame, in its own resolution; `number` counts those that were pushed."""
        picture = shrunk(self._preprocessing.display_frames(frame.image[None])[0])
        self._kept[number] = picture, frame.stamp, frame.time
        self._kept.pop(number - self._preprocessing.frames, None)

    def paint(self, explanation: Explanation) -> list[Painted]:
        """The frames of an explanation that were in none before."""
        facts = explanation.metadata
        numbers: list[int] = facts["source"]["frame_indices"]
        fresh = sum(number > self._shown for number in numbers)
        self._shown = numbers[-1]
        kept = [self._kept[number] for number in numbers[-fresh:]]
        saliency = explanation.saliency[0].cpu().numpy()
        pictures = np.stack([picture for picture, *_ in kept])
        painted = render_overlay(pictures, saliency[-fresh:], limit=color_limit(saliency))
        text = f"{facts['target'][0]}  p = {facts['probability'][0]:.2f}"
        return [Painted(image, stamp, time, text) for image, (_, stamp, time) in zip(painted, kept, strict=True)]
