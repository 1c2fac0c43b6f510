"""From decoded frames to a model's input, and boxes along with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects.

    Attributes:
        frames: T, how many frames.
        stride: step between them in the video.
        size: the short side after resizing, pixels; the long side keeps the proportion.
        crop: (H, W) of the centre crop, pixels.
        mean: per channel, of pixels in [0, 1].
        std: likewise.
    """

    frames: int
    stride: int
    size: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if min(self.frames, self.stride, self.size, *self.crop) < 1:
            raise InputError(
                f"frames, stride, size and crop must be at least 1; "
                f"got {self.frames}, {self.stride}, {self.size}, {self.crop}"
            )
        if max(self.crop) > self.size:
            raise InputError(f"crop must be at most size={self.size} pixels a side; got {self.crop}")

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the whole frame after resizing, before the crop."""
        scale = self.size / min(height, width)
        return max(self.size, round(height * scale)), max(self.size, round(width * scale))

    def source_window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The crop in pixels of the source frame: (x0, y0, x1, y1)."""
        high, wide = self.resized(height, width)
        top, left = (high - self.crop[0]) // 2, (wide - self.crop[1]) // 2
        fy, fx = height / high, width / wide
        return left * fx, top * fy, (left + self.crop[1]) * fx, (top + self.crop[0]) * fy

    def crop_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(T, H, W, 3) uint8 to (T, crop H, crop W, 3) uint8: area-averaged when smaller, bilinear when larger."""
        high, wide = self.resized(*frames.shape[1:3])
        top, left = (high - self.crop[0]) // 2, (wide - self.crop[1]) // 2
        how = cv2.INTER_AREA if high < frames.shape[1] else cv2.INTER_LINEAR
        out = np.empty((len(frames), *self.crop, 3), dtype=np.uint8)
        for t, frame in enumerate(frames):
            resized = frame if (high, wide) == frame.shape[:2] else cv2.resize(frame, (wide, high), interpolation=how)
            out[t] = resized[top : top + self.crop[0], left : left + self.crop[1]]
        return out

    def display_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of the source frames that the model sees, in their own resolution, for people to look at."""
        x0, y0, x1, y1 = (round(v) for v in self.source_window(*frames.shape[1:3]))
        return np.ascontiguousarray(frames[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])

    def map_boxes(
        self, boxes: NDArray[np.integer[Any]] | NDArray[np.floating[Any]], height: int, width: int
    ) -> NDArray[np.int32]:
        """Boxes to the model's pixels, grown to whole ones and clipped.

        Args:
            boxes: (..., 4) of any numbers, (x0, y0, x1, y1) in source pixels, half-open.
            height: of the source frames.
            width: likewise.

        Returns:
            (..., 4) int32; (0, 0, 0, 0) for boxes that are empty (x1 <= x0 or y1 <= y0) or outside of the crop.
        """
        boxes = np.asarray(boxes, np.float64)
        x0, y0, x1, y1 = self.source_window(height, width)
        scale = np.array([self.crop[1] / (x1 - x0), self.crop[0] / (y1 - y0)] * 2)
        # Rounded first: a corner that falls on a whole pixel must not grow the box by rounding errors.
        moved = ((boxes - np.array([x0, y0, x0, y0])) * scale).round(6)
        whole = np.concatenate([np.floor(moved[..., :2]), np.ceil(moved[..., 2:])], axis=-1)
        clipped = np.clip(whole, 0, np.array([self.crop[1], self.crop[0]] * 2))
        empty = (boxes[..., 2:] <= boxes[..., :2]) | (clipped[..., 2:] <= clipped[..., :2])
        mapped: NDArray[np.int32] = np.where(empty.any(-1, keepdims=True), 0, clipped).astype(np.int32)
        return mapped

    def to_input(self, cropped: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 frames, already cropped, to (1, 3, T, H, W) float32, normalised."""
        import torch

        from aosa_fast.kernels.pictures import normalize_frames

        return normalize_frames(
            torch.from_numpy(cropped[None]),
            *(torch.tensor(v, dtype=torch.float32, device="cpu") for v in (self.mean, self.std)),
        )
