"""Where the pixels of rendered clips come from: photographs shipped inside scikit-image, and sprites cut from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from aosa_fast.libraries import check_libraries, cv2

# CC0 or public domain, and inside the scikit-image wheel, so that nothing is downloaded. NOTICE lists the sources.
IMAGES = ("brick", "coffee", "chelsea", "grass", "gravel", "rocket")
SPLITS = ("train", "test")
BANK_SIDE = 256
_OVERSAMPLE = 4  # mask pixels per texel
_SHIFT = 8  # fractional bits of polygon corners in cv2.fillPoly


@cache
def texture_bank(split: str) -> tuple[np.ndarray, ...]:
    """The images of one split; "train" sees the left part of each photograph and "test" the right part.

    Returns:
        One (H, W, 3) float32 array in 0..255 for each of `IMAGES`, RGB, shorter side `BANK_SIDE` pixels.

    Raises:
        InputError: scikit-image is not installed.
    """
    check_libraries("skimage", extra="train", what="rendered clips")
    from skimage import data

    return tuple(_part(np.asarray(getattr(data, name)()), split) for name in IMAGES)


def _part(image: np.ndarray, split: str) -> np.ndarray:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    half = int(image.shape[1] * 0.49)  # a gap of 2 % keeps the two splits apart after resizing
    part = image[:, :half] if split == "train" else image[:, -half:]
    scale = BANK_SIDE / min(part.shape[:2])
    width, height = round(part.shape[1] * scale), round(part.shape[0] * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.clip(cv2.resize(part, (width, height), interpolation=method).astype(np.float32), 0, 255)


def crop(image: np.ndarray, x: float, y: float, side: float, out: int) -> np.ndarray:
    """A square of an image (H, W, 3) float32, resampled without aliasing to (out, out, 3).

    `x` and `y` are its left and top edge as fractions of the free room, `side` is in pixels, at most the image's.
    """
    height, width = image.shape[:2]
    n = max(2, min(round(side), height, width))
    x0, y0 = int(x * (width - n)), int(y * (height - n))
    method = cv2.INTER_AREA if n > out else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image[y0 : y0 + n, x0 : x0 + n], (out, out), interpolation=method))


@dataclass(frozen=True)
class Sprite:
    """An opaque textured shape, free of any resolution.

    Attributes:
        polygon: (P, 2) float64, corners as `(x, y)` from the centre, in sides of the frame.
        image: index into `IMAGES`.
        patch: x, y (fractions of the free room) and side (pixels of the bank image) of the texture.
        tint: (3,) float32, colour in 0..255 that is mixed with the texture.
    """

    polygon: np.ndarray
    image: int
    patch: tuple[float, float, float]
    tint: np.ndarray

    def draw(self, bank: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, float]:
        """(n, n, 4) float32 for frames of `size` pixels, RGB premultiplied by alpha, and alpha in 0..1.

        And the side in pixels that the n texels stand for, which is not a whole number.
        """
        half = float(np.abs(self.polygon).max())
        span = 2 * half * size
        n = max(3, int(np.ceil(span)))
        side = _OVERSAMPLE * n
        corners = self.polygon / (2 * half) * side
        outer, inner = _fill(corners, side), _fill(0.84 * corners, side)
        masks = cv2.resize(np.dstack([outer, inner]), (n, n), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        alpha, inside = masks[..., :1], masks[..., 1:]
        texture = crop(bank[self.image], *self.patch, n)
        # The darker rim keeps sprites apart from backgrounds of the same brightness.
        colour = (0.45 * self.tint + 0.75 * (texture - 64)) * (0.35 + 0.65 * inside)
        return np.dstack([np.clip(colour, 0, 255) * alpha, alpha]).astype(np.float32), span

    def boxes(self, centres: np.ndarray, size: int) -> np.ndarray:
        """(T, 4) int32 boxes in pixels for (T, 2) `centres` in sides of the frame.

        A faint rim of resampling may reach one pixel further.
        """
        return boxes_of(centres, self.polygon.min(axis=0), self.polygon.max(axis=0), size)


def boxes_of(centres: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, size: int) -> np.ndarray:
    """(T, 4) int32 boxes in pixels, clipped to the frame, from `centres` + `low` to `centres` + `high`."""
    corners = np.concatenate([np.floor((centres + low) * size), np.ceil((centres + high) * size)], axis=1)
    return np.asarray(np.clip(corners, 0, size), np.int32)


def _fill(corners: np.ndarray, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    fixed = np.rint((corners + side / 2 - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return np.asarray(cv2.fillPoly(mask, [fixed], 255, lineType=cv2.LINE_AA, shift=_SHIFT))


def sample_sprite(
    rng: np.random.Generator, background: int, *, corners: int | None = None, hue: float | None = None
) -> Sprite:
    """A sprite of about a quarter of the frame, with a texture other than the background's, an index into `IMAGES`.

    Moving objects and distractors both come from here. The number of draws does not depend on their values.

    Args:
        rng: what is drawn from.
        background: index into `IMAGES`.
        corners: 3, 4, 5 (a star) or 40 (a disc); None draws it.
        hue: of OpenCV, 0 to 180, and then a strong colour; None draws it.
    """
    drawn = (3, 4, 5, 40)[rng.integers(4)]
    corners = drawn if corners is None else corners
    inner = 0.55 if corners == 5 else 1.0
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, 2 * corners, endpoint=False)
    radii = np.where(np.arange(2 * corners) % 2 == 0, 1.0, inner if corners == 5 else np.cos(np.pi / corners))
    polygon = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    side = rng.uniform(0.22, 0.29)
    polygon = (polygon - (low + high) / 2) * side / float((high - low).max())
    image = int((background + rng.integers(1, len(IMAGES))) % len(IMAGES))
    patch = (float(rng.uniform()), float(rng.uniform()), float(rng.uniform(70, 130)))
    any_hue, value = rng.uniform(0, 180), rng.uniform(150, 255)
    if hue is None:
        return Sprite(polygon, image, patch, rgb(any_hue, 190, value))
    return Sprite(polygon, image, patch, 1.5 * rgb(hue, 255, value))


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) float32 in 0..255 of a colour as OpenCV has it: hue 0 to 180, all else 0 to 255."""
    colour = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return np.asarray(colour, np.float32)


@dataclass(frozen=True)
class Mark:
    """Rings in a colour and white.

    Attributes:
        hue: of OpenCV, 0 to 180.
        side: in sides of the frame.
    """

    hue: float
    side: float

    def draw(self, bank: tuple[np.ndarray, ...], size: int) -> tuple[np.ndarray, float]:
        """As `Sprite.draw`."""
        span = self.side * size
        n = max(3, int(np.ceil(span)))
        rows, columns = (np.indices((8 * n, 8 * n)) + 0.5) / (8 * n) - 0.5
        distance = np.hypot(rows, columns)
        colour = np.where((distance % 0.25 < 0.15)[..., None], rgb(self.hue, 255, 230), 245.0)
        picture = np.dstack([colour, np.ones_like(distance)]) * (distance < 0.5)[..., None]
        return cv2.resize(picture.astype(np.float32), (n, n), interpolation=cv2.INTER_AREA), span

    def boxes(self, centres: np.ndarray, size: int) -> np.ndarray:
        """As `Sprite.boxes`."""
        return boxes_of(centres, -self.side / 2, self.side / 2, size)


def paste(canvas: np.ndarray, texels: np.ndarray, span: float, centre: np.ndarray) -> None:
    """Blend what `Sprite.draw` gives into a picture (H, W, 3) float32, in place, around a sub-pixel (x, y)."""
    corner = centre - span / 2
    x0, y0 = (int(v) for v in np.floor(corner))
    n, scale = int(np.ceil(span)) + 2, span / texels.shape[0]
    # Pixel and texel centres lie at half-integers, hence the second term.
    shift = corner - (x0, y0) + scale / 2 - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    patch = cv2.warpAffine(texels, matrix, (n, n), flags=cv2.INTER_LINEAR)
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = min(n, canvas.shape[1] - x0), min(n, canvas.shape[0] - y0)
    if left >= right or top >= bottom:
        return
    view, patch = canvas[y0 + top : y0 + bottom, x0 + left : x0 + right], patch[top:bottom, left:right]
    view *= 1 - patch[..., 3:]
    view += patch[..., :3]
