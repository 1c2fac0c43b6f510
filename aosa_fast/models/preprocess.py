"""From decoded frames to a model's input, and boxes along with them."""

from __future__ import annotations

import dataclasses
import importlib
import math
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError, ModelError, describe_error
from aosa_fast.models.resize import resize

if TYPE_CHECKING:
    from torch import Tensor


RESIZES = ("short", "exact", "letterbox")


def normalisation(name: str, given: Any, channels: int) -> tuple[float, ...]:
    """The `mean` or `std` of pixels in [0, 1] for each channel, wherever it comes from.

    Args:
        name: "mean" or "std".
        given: a number, or a sequence, array or tensor of one or of one per channel.
        channels: C.

    Raises:
        InputError: another number of values, no number, one that is not finite, a `std` that is not positive, or values
            of pixels in 0..255.
    """
    try:
        array = np.asarray(given.detach().double().cpu() if hasattr(given, "detach") else given, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, or a sequence of numbers; got {given}") from None
    values = tuple(array.ravel().tolist())
    if len(values) not in (1, channels):
        raise InputError(f"{name} must have one value, or one per channel, C={channels}; got {len(values)}")
    if not all(math.isfinite(value) and (name != "std" or value > 0) for value in values):
        raise InputError(f"{name} must be finite{' and positive' if name == 'std' else ''}; got {_listed(values)}")
    if max(map(abs, values), default=0) > 1.01:  # a scale of 1/256 gives a std of 1.004
        raise InputError(
            f"{name} must be of pixels in [0, 1], so at most 1: divide mean and std by 255 if they are of pixels in "
            f"0..255; got {_listed(values)}"
        )
    return values * (channels // len(values))


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects.

    Attributes:
        frames: T, how many frames.
        stride: step between them in the video.
        size: the short side after resizing, pixels; the long side keeps the proportion. Not used unless `resize` is
            "short".
        crop: (H, W) of the model's input, pixels.
        mean: per channel, of pixels in [0, 1].
        std: likewise.
        resize: how a frame becomes the input: "short", its short side is brought to `size`, and the centre is cropped;
            "exact", the whole frame is squeezed to `crop`; "letterbox", the whole frame is fitted into `crop` in its
            own proportion, between black bars.
        decoder_scales: whether frames of videos are shrunk by FFmpeg as their colours are converted, as audits do: in a
            sixth of the time, and off by a level or so. Otherwise they are converted whole and resized afterwards.

    Raises:
        InputError: a value out of its range.
    """

    frames: int
    stride: int
    size: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "short"
    decoder_scales: bool = False

    def __post_init__(self) -> None:
        crop = np.atleast_1d(self.crop).tolist()
        if len(crop) != 2:
            raise InputError(f"crop must be two numbers, height and width; got {self.crop}")
        object.__setattr__(self, "crop", tuple(crop))
        if min(self.frames, self.stride, self.size, *self.crop) < 1:
            raise InputError(
                f"frames, stride, size and crop must be at least 1; "
                f"got {self.frames}, {self.stride}, {self.size}, {self.crop}"
            )
        if self.resize not in RESIZES:
            raise InputError(f"resize must be one of {', '.join(RESIZES)}; got {self.resize}")
        if self.resize == "short" and max(self.crop) > self.size:
            raise InputError(
                f"crop must be at most size={self.size} pixels a side, unless resize is exact or letterbox; "
                f"got {self.crop}"
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, normalisation(name, getattr(self, name), 3))

    def changed(self, **fields: Any) -> Preprocessing:
        """The same with other values of these fields; of the same class, and with all else that a subclass holds.

        Raises:
            InputError: a value out of its range.
        """
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, **fields})
        other.__post_init__()
        return other

    @property
    def summary(self) -> str:
        """How a frame becomes the input, in a few words."""
        height, width = self.crop
        how = {"short": f"short side {self.size}, and the centre", "exact": "squeezed", "letterbox": "letterboxed"}
        return f"{width}x{height} ({how[self.resize]})"

    def for_audits(self) -> Preprocessing:
        """The same with frames that the decoder scales, unless the class resizes or crops by its own code."""
        own = any(getattr(type(self), name) is not getattr(Preprocessing, name) for name in ("crop_frames", "resized"))
        return self if own else self.changed(decoder_scales=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """For the processes of an audit: a user's class may be in a folder that these do not search."""
        own = type(self)
        file = getattr(sys.modules.get(own.__module__), "__file__", None)
        levels = own.__module__.count(".") + (1 if file is None or not file.endswith("__init__.py") else 2)
        folder = None if file is None else os.path.abspath(os.path.join(file, *[".."] * levels))
        return _unpickled, (own.__module__, own.__qualname__, folder, self.__dict__)

    def as_dict(self) -> dict[str, Any]:
        """The fields in types that JSON has, and of a subclass its name, "class", since its code is in no file."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(Preprocessing)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        if not self.decoder_scales:  # which is younger than the files that hold this
            del plain["decoder_scales"]
        own = type(self)
        return plain if own is Preprocessing else {**plain, "class": f"{own.__module__}.{own.__qualname__}"}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Preprocessing:
        """What `as_dict` made; files from before there was `resize` lack it.

        Raises:
            InputError: fields that are missing or unknown, or those of a subclass, which only its model can make.
        """
        if "class" in plain:
            raise InputError(f"preprocessing must be of the base class to be read again; got {plain['class']}")
        try:
            return Preprocessing(**plain)
        except TypeError as error:
            raise InputError(f"preprocessing must be that of a model; {error}") from None

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the whole frame after resizing, before the crop, or before the bars of a letterbox."""
        if self.resize == "exact":
            return self.crop
        if self.resize == "letterbox":
            scale = min(self.crop[0] / height, self.crop[1] / width)
            high, wide = (
                max(1, min(side, round(own * scale))) for side, own in zip(self.crop, (height, width), strict=True)
            )
            return high, wide
        scale = self.size / min(height, width)
        return max(self.size, round(height * scale)), max(self.size, round(width * scale))

    def shrunk(self, height: int, width: int) -> tuple[int, int]:
        """What `resized` gives, where that is smaller; what shrank to this becomes the same input."""
        high, wide = self.resized(height, width)
        return min(high, height), min(wide, width)

    def _placed(self, height: int, width: int) -> tuple[int, int, int, int]:
        """What `resized` gives, and (top, left) of the crop in it; negative where the frame lies between bars."""
        high, wide = self.resized(height, width)
        return high, wide, (high - self.crop[0]) // 2, (wide - self.crop[1]) // 2

    def source_window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The model's input in pixels of the source frame, (x0, y0, x1, y1); the bars of a letterbox lie outside."""
        high, wide, top, left = self._placed(height, width)
        fy, fx = height / high, width / wide
        return left * fx, top * fy, (left + self.crop[1]) * fx, (top + self.crop[0]) * fy

    def crop_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(T, H, W, 3) uint8 to (T, crop H, crop W, 3) uint8: area-averaged when smaller, bilinear when larger."""
        high, wide, top, left = self._placed(*frames.shape[1:3])
        out = np.empty((len(frames), *self.crop, 3), dtype=np.uint8)
        for t, frame in enumerate(frames):
            out[t] = _window(resize(frame, high, wide)[None], top, left, *self.crop)
        return out

    def cropped(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What `crop_frames`, which may be a user's own code, makes of frames, checked.

        Raises:
            ModelError: it fails.
            InputError: it makes something else than (T, crop H, crop W, 3) uint8.
        """
        own = f"{type(self).__name__}.crop_frames"
        try:
            made: Any = self.crop_frames(frames)
        except InputError:
            raise
        except Exception as error:
            raise ModelError(f"{own} must work on the frames; it raised {describe_error(error)}") from error
        shape = (len(frames), *self.crop, 3)
        if not isinstance(made, np.ndarray) or made.dtype != np.uint8 or made.shape != shape:
            got = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            raise InputError(f"{own} must make uint8 of shape {shape}, the model's input; got {got}")
        return made

    def display_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the model sees of the source frames, in their own resolution, for people to look at."""
        height, width = frames.shape[1:3]
        x0, y0, x1, y1 = (round(v) for v in self.source_window(height, width))
        return _window(frames, y0, x0, max(y1 - y0, 1), max(x1 - x0, 1))

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


def _window(frames: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
    """A part of frames (T, H, W, 3), black where it reaches beyond them."""
    out = np.zeros((len(frames), height, width, 3), np.uint8)
    part = frames[:, max(top, 0) : top + height, max(left, 0) : left + width]
    y, x = max(-top, 0), max(-left, 0)
    out[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return out


def _unpickled(module: str, name: str, folder: str | None, fields: dict[str, Any]) -> Preprocessing:
    if module not in sys.modules and folder is not None:
        sys.path.append(folder)
        try:
            importlib.import_module(module)
        finally:
            sys.path.remove(folder)
    own = operator.attrgetter(name)(importlib.import_module(module))
    made: Preprocessing = object.__new__(own)
    made.__dict__.update(fields)
    return made


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(format(value, '.6g') for value in values)}]"
