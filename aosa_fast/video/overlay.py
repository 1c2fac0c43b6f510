"""Paint saliency over the frames that it explains."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.video.colormap import LEVELS, blend_tables


def render_overlay(
    frames: NDArray[np.uint8],
    saliency: NDArray[np.float32],
    *,
    alpha: float = 0.6,
    limit: float | None = None,
    boxes: NDArray[np.int32] | None = None,
    min_side: int = 224,
) -> NDArray[np.uint8]:
    """Paint signed saliency over frames: warm colours where it is positive, blue where it is negative.

    Args:
        frames: (T, H, W, 3) uint8, RGB.
        saliency: (T, h, w) floating point, units of the target score; resized bilinearly to the frames.
        alpha: opacity of the strongest colour, 0 to 1; weaker values are more transparent.
        limit: |saliency| that gets the strongest colour, as in `color_limit`.
        boxes: (T, 4) x0, y0, x1, y1, pixels of `saliency`, half-open; outlined. Empty ones are not drawn.
        min_side: frames whose shorter side is below this are enlarged by a whole factor.

    Returns:
        (T, H2, W2, 3) uint8.

    Raises:
        InputError: shapes that do not fit together, NaN or infinite saliency, `alpha` or `limit` out of range.
    """
    check_maps(frames, saliency, boxes)
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must be within 0..1; got {alpha!r}")
    limit = color_limit(saliency, limit)
    T, H, W = frames.shape[:3]
    factor = max(1, math.ceil(min_side / min(H, W)))
    keep, add = blend_tables(alpha)
    out = np.empty((T, H * factor, W * factor, 3), np.uint8)
    for t in range(T):
        image = resize_image(frames[t], H * factor, W * factor)
        if limit > 0:
            level = _levels(saliency[t], limit, H * factor, W * factor)
            # "clip" skips a check of every index; none is out of range.
            mixed = image * np.take(keep, level, mode="clip")[..., None]
            mixed += np.take(add, level, axis=0, mode="clip")
            mixed >>= 8
            out[t] = mixed
        else:
            out[t] = image
        if boxes is not None:
            _draw_box(out[t], boxes[t], saliency.shape[1:])
    return out


def color_limit(saliency: NDArray[np.float32], limit: float | None = None) -> float:
    """The |saliency| that gets the strongest colour; 0 means no colour at all.

    A constant map has none. Else it is `limit` where one is given, else the 99.5th percentile of |saliency|.

    Raises:
        InputError: `limit` is negative or not finite.
    """
    if limit is not None and not (math.isfinite(limit) and limit >= 0):
        raise InputError(f"limit must be a finite number, at least 0; got {limit!r}")
    if saliency.min() == saliency.max():
        return 0.0
    if limit is not None:
        return limit
    size = np.abs(saliency)
    # A map that is zero almost everywhere would have no colour at all by the percentile.
    return float(np.percentile(size, 99.5)) or float(size.max())


def color_range(saliency: NDArray[np.float32], limit: float) -> tuple[float, float]:
    """The values between which a map has colours of their own, 0 among them, where `limit` has the strongest."""
    ends = max(min(0.0, float(saliency.min())), -limit), min(max(0.0, float(saliency.max())), limit)
    low, high = (end if abs(end) > limit / 1000 else 0.0 for end in ends)  # which nobody sees, and rounding leaves
    return low, high


def check_maps(frames: NDArray[np.uint8], saliency: NDArray[np.float32], boxes: NDArray[np.int32] | None) -> None:
    """Check that frames, maps and boxes fit together.

    Raises:
        InputError: they do not, or the saliency is not finite.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise InputError(f"frames must be uint8 of shape (T, H, W, 3); got {frames.dtype} of {frames.shape}")
    T = len(frames)
    if saliency.ndim != 3 or len(saliency) != T or 0 in saliency.shape or saliency.dtype.kind != "f":
        got = f"{saliency.dtype} of {saliency.shape}"
        raise InputError(f"saliency must be floating point of shape (T, h, w), T={T}; got {got}")
    if not np.isfinite(saliency).all():
        raise InputError(f"saliency must be finite; got {int((~np.isfinite(saliency)).sum())} NaN or infinite values")
    if boxes is not None and (boxes.shape != (T, 4) or boxes.dtype.kind not in "iuf"):
        raise InputError(f"boxes must be numbers of shape (T, 4), T={T}; got {boxes.dtype} of {boxes.shape}")


def resize_image(image: NDArray[np.uint8], H: int, W: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the image resized with Lanczos filtering; itself where it has that size."""
    if image.shape[:2] == (H, W):
        return image
    return np.asarray(Image.fromarray(image).resize((W, H), Image.Resampling.LANCZOS))


def _levels(values: NDArray[np.float32], limit: float, H: int, W: int) -> NDArray[np.intp]:
    """(H, W) rows of the colour tables for one (h, w) map resized to the frame; clipped at the limit."""
    # Scaling before resizing works on the small map; float64, so that a tiny limit does not overflow.
    small = (np.clip(values.astype(np.float64) / limit, -1, 1) * LEVELS + LEVELS).astype(np.float32)
    return np.rint(_resize_bilinear(small, H, W)).astype(np.intp)


def _resize_bilinear(values: NDArray[np.float32], H: int, W: int) -> NDArray[np.float32]:
    """(H, W) float32: pixel centres aligned, edges repeated, as in image libraries."""
    for axis, size in ((0, H), (1, W)):
        if values.shape[axis] == size:
            continue
        low, high, weight = _taps(values.shape[axis], size)
        first = np.take(values, low, axis=axis)
        step = np.take(values, high, axis=axis)
        step -= first
        step *= weight[:, None] if axis == 0 else weight
        # a + (b - a) * weight keeps a constant exact, which a * (1 - weight) + b * weight would not.
        first += step
        values = first
    return values


def _taps(source: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    at = np.clip((np.arange(size) + 0.5) * (source / size) - 0.5, 0, source - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float32)


def _draw_box(image: NDArray[np.uint8], box: NDArray[np.int32], size: tuple[int, ...]) -> None:
    """Outline one box in white with a black rim inside, so that it shows on any frame; changes `image`."""
    H, W = image.shape[:2]
    scale = np.array([W / size[1], H / size[0]] * 2)
    if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        return
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.rint(box * scale), 0, [W, H, W, H]))
    line = max(1, round(min(H, W) / 224))
    for inset, value in ((0, 255), (line, 0)):
        left, top, right, bottom = x0 + inset, y0 + inset, x1 - inset, y1 - inset
        if right <= left or bottom <= top:
            return
        image[top : top + line, left:right] = value
        image[max(top, bottom - line) : bottom, left:right] = value
        image[top:bottom, left : left + line] = value
        image[top:bottom, max(left, right - line) : right] = value
