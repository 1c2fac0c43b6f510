"""A scene: a backdrop and things on it, which can be rendered again without one of them, or with it standing still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aosa_fast.demo.textures import paste, texture_bank
from aosa_fast.libraries import cv2


class Look(Protocol):
    """How a thing looks: a `Sprite` or a `Mark`."""

    def draw(self, bank: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, float]:
        """(n, n, 4) float32 for frames of `size` pixels, premultiplied by alpha, and the side that it stands for."""
        ...

    def boxes(self, centres: np.ndarray, size: int) -> np.ndarray:
        """(T, 4) int32 boxes in pixels for (T, 2) `centres` in sides of the frame."""
        ...


@dataclass(frozen=True)
class Thing:
    """Something in a scene.

    Attributes:
        name: such as "mover 0" or "still 2".
        look: how it looks.
        path: (T, 2) float64, its centre `(x, y)` in sides of the frame, before the camera's way is taken off.
        moves: what moves is in front of all that stands still.
        shown: False leaves it out of the picture.
    """

    name: str
    look: Look
    path: np.ndarray
    moves: bool
    shown: bool = True


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip before it is rendered.

    Attributes:
        seed: what it was made from.
        label: its class.
        things: in the order in which they are painted.
        answer: index of the one that the class rests on.
        split: "train" or "test".
        size: side of the frames, pixels.
        canvas: (H', W', 3) float32, the backdrop, with `margin` pixels round the frame.
        margin: room for the camera's way.
        way: (T, 2) float64, of the camera, in sides of the frame.
        noise: standard deviation of the sensor noise, grey levels.
    """

    seed: int
    label: int
    things: tuple[Thing, ...]
    answer: int
    split: str
    size: int
    canvas: NDArray[np.float32]
    margin: int
    way: np.ndarray
    noise: float

    def render(self) -> np.ndarray:
        """(T, H, W, 3) uint8, RGB."""
        bank, size, frames = texture_bank(self.split), self.size, len(self.way)
        shown = [thing for thing in self.things if thing.shown]
        canvas = self.canvas.copy()
        for thing in shown:
            if not thing.moves:
                paste(canvas, *thing.look.draw(bank, size), thing.path[0] * size + self.margin)
        movers = [(thing.path, *thing.look.draw(bank, size)) for thing in shown if thing.moves]
        video = np.empty((frames, size, size, 3), np.float32)
        for t, way in enumerate(self.way):
            video[t] = _seen(canvas, self.margin + way * size, size) if self.margin else canvas
            for path, texels, span in movers:
                paste(video[t], texels, span, (path[t] - way) * size)
        return _sensed(video, self.noise, self.seed)

    def boxes(self, number: int) -> NDArray[np.int32]:
        """(T, 4) int32, `(x0, y0, x1, y1)` of a thing, pixels, half-open, clipped to the frame."""
        thing = self.things[number]
        return np.asarray(thing.look.boxes(thing.path - self.way, self.size))

    def without(self, number: int) -> Scene:
        """The scene without one of its things."""
        return self._with(number, shown=False)

    def stopped(self, number: int) -> Scene:
        """The scene in which one of its things stands, all the time, where it would be half-way through."""
        path = self.things[number].path
        return self._with(number, path=np.broadcast_to(path[len(path) // 2], path.shape))

    def _with(self, number: int, **changes: Any) -> Scene:
        things = [replace(thing, **changes) if k == number else thing for k, thing in enumerate(self.things)]
        return replace(self, things=tuple(things))


def _sensed(video: np.ndarray, noise: float, seed: int) -> np.ndarray:
    frames, size = video.shape[:2]
    grain = np.random.default_rng((2, seed)).standard_normal((frames * size, size), np.float32)
    # Grey grain, and one pass that rounds and saturates: this is most of the time at 64 pixels.
    grey = cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB)
    pixels = cv2.addWeighted(video.reshape(grey.shape), 1.0, grey, noise, 0.0, dtype=cv2.CV_8U)
    return np.asarray(pixels).reshape(video.shape)


def _seen(canvas: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    return np.asarray(cv2.warpAffine(canvas, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE))
