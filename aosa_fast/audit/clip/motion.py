"""What moves in a clip against its camera, and what never changes: overlays and bars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.camera import camera_flow, camera_length, robust_deviation, sparse_grid
from aosa_fast.libraries import cv2

_STILL = 0.25  # pixels per frame in a frame of 112
_CHANGE = 1.8  # times the usual difference of frames
_LEVELS = 2.0
_STATIC_LEVELS = 4
_STEADY = 0.7  # of an edge that stays in its place: length of its mean gradient over the mean of its lengths
_EDGE = 6.0  # levels per pixel
_BAR_LEVELS = 8
_LONGEST_BAR = 0.45


def moving_pixels(
    flow: NDArray[np.float32], camera: NDArray[np.float64], frames: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Pixels that move against the camera's motion.

    Two things must be so. The flow differs from the camera's by more than 0.25 pixels in a frame of 112 (in
    proportion in others), and by three robust deviations of the pair's differences. And the picture changes though
    the camera's motion is undone: the mean over 5 x 5 pixels of the levels by which the most different channel differs
    is more than 1.8 times the pair's median and more than 2, to the next frame and from the one before. Flow alone
    reaches half its window beyond an object; changes alone hold for noise, edges and light as well. What stands still
    in the frame while the camera moves is an overlay, and none of these pixels.

    Of clips of `aosa_fast.demo.render`, 64 to 112 pixels, with and without a camera that pans: 0.94 to 0.97 of the
    mover's pixels are found, and 0.86 to 0.93 of what is found lies in its box.

    Args:
        flow: (T-1, H, W, 2), (dx, dy), pixels.
        camera: (T-1, 2, 3), of `camera_motion`.
        frames: (T, H, W, 3), RGB.

    Returns:
        (T, H, W); the last frame's are those of the one before, a single frame has none.
    """
    count, height, width, _ = frames.shape
    moving = np.zeros((count, height, width), bool)
    if count == 1:
        return moving
    off = flow - camera_flow(camera, height, width)
    squares = off[..., 0] ** 2 + off[..., 1] ** 2
    rows, columns = sparse_grid(height, width)
    few = squares[:, rows[:, None], columns].reshape(count - 1, -1)
    limit = np.maximum(_STILL * min(height, width) / 112, 3 * robust_deviation(few)).astype(np.float32)
    moving[:-1] = squares > np.square(limit)[:, None, None]
    changed = _changes(camera, frames)
    moving[:-1] &= changed > 0
    for t in range(count - 2):
        # The same change, seen from the frame that it leads to.
        seen = cv2.warpAffine(changed[t], _matrix(camera[t]), (width, height), flags=cv2.INTER_NEAREST)
        moving[t + 1] &= seen > 0
    moving[-1] = moving[-2]
    return moving & ~overlay_pixels(camera, frames)


def overlay_pixels(camera: NDArray[np.float64], frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What stands still in the frame while the camera moves: a logo or a caption, maybe one that can be seen through.

    Over the clip, what is there changes less than half as much as it would have to if it moved with the camera; and its
    edges stay: the mean gradient is at least 0.7 as long as gradients are on the mean, which must be 6 levels per
    pixel. With what lies between such edges, and 1/16 of the shorter side round them, as far as flow carries them.

    Returns:
        (H, W), of frames (T, H, W, 3) and the camera's motion (T-1, 2, 3); all False where the camera stands still.
    """
    height, width = frames.shape[1:3]
    if camera_length(camera, height, width) <= _STILL * min(height, width) / 112:
        return np.zeros((height, width), bool)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    gradient = np.zeros((2, height, width), np.float32)
    lengths, stays, follows = np.zeros((3, height, width), np.float32)
    for t, grey in enumerate(greys):
        # Scaled to levels per pixel: the weights of one side of Sobel's filter sum to 4, over two pixels.
        across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
        gradient += across, down
        lengths += cv2.magnitude(across, down)
        if t:
            stays += cv2.absdiff(grey, greys[t - 1])
            follows += cv2.absdiff(_undone(grey, camera[t - 1]), greys[t - 1])
    steady = (cv2.magnitude(*gradient) >= _STEADY * lengths) & (lengths >= _EDGE * len(frames))
    steady &= cv2.blur(stays, (3, 3)) < 0.5 * cv2.blur(follows, (3, 3))
    # Single pixels are chance.
    steady &= cv2.blur(steady.astype(np.float32), (3, 3)) > 0.3
    reach = 2 * max(1, round(min(height, width) / 16)) + 1
    return cv2.dilate(steady.astype(np.uint8), np.ones((reach, reach), np.uint8)).astype(bool)


def static_pixels(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that never change: logos, captions that stay, bars.

    A pixel's values span at most 4 of 255 levels over the clip in each channel, and those of three neighbours that
    make a 2 x 2 block with it likewise. Light compression keeps an overlay within that (H.264 at its usual quality:
    nine pixels in ten, resized to 112), while sensor noise of 4 levels leaves it in 6 frames or more. Static are also
    a surface of one colour that stays in view, and, before a camera that stands still, a background without noise or
    whose noise the compression took away.

    Returns:
        (H, W), of frames (T, H, W, 3); all False for a single frame, which says nothing of change.
    """
    static = np.zeros(frames.shape[1:3], bool)
    if len(frames) == 1:
        return static
    steady = (frames.max(axis=0) - frames.min(axis=0)).max(axis=2) <= _STATIC_LEVELS
    blocks = steady[:-1, :-1] & steady[1:, :-1] & steady[:-1, 1:] & steady[1:, 1:]
    for part in (static[:-1, :-1], static[1:, :-1], static[:-1, 1:], static[1:, 1:]):
        part |= blocks
    return static


def letterbox(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bars along the frame's sides: rows or columns from the edge on whose values span at most 8 levels altogether.

    Over all frames, per channel, and each bar for itself. What goes on for more than 45 % of a side is no bar but a
    dark or empty picture, so that a clip of one colour has none.

    Returns:
        (H, W), of frames (T, H, W, 3).
    """
    high, low = frames.max(axis=0), frames.min(axis=0)
    height, width = high.shape[:2]
    top = bottom = left = right = 0
    for again in (False, True):
        if again and not (left or right):
            break  # only bars at the sides can hide, by their colour, those above and below
        inner = slice(left, width - right)
        top, bottom = _bars(high[:, inner].max(axis=1), low[:, inner].min(axis=1))
        inner = slice(top, height - bottom)
        left, right = _bars(high[inner].max(axis=0), low[inner].min(axis=0))
    bars = np.ones((height, width), bool)
    bars[top : height - bottom, left : width - right] = False
    return bars


def _bars(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> tuple[int, int]:
    """Lines of the bars at both ends, of the extremes (N, 3) of each of N lines."""
    lengths = []
    for way in (1, -1):
        # The largest is never below the smallest, so that bytes suffice.
        span = np.maximum.accumulate(high[::way]) - np.minimum.accumulate(low[::way])
        length = int((span.max(axis=1) <= _BAR_LEVELS).sum())
        lengths.append(length if length <= _LONGEST_BAR * len(high) else 0)
    return lengths[0], lengths[1]


def _changes(camera: NDArray[np.float64], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T-1, H, W), 1 where a frame differs from the next, once the camera's motion is undone."""
    count, height, width, _ = frames.shape
    changed = np.empty((count - 1, height, width), np.uint8)
    for t in range(count - 1):
        red, green, blue = cv2.split(cv2.absdiff(_undone(frames[t + 1], camera[t]), frames[t]))
        difference = cv2.boxFilter(cv2.max(cv2.max(red, green), blue), cv2.CV_32F, (5, 5))
        changed[t] = difference > max(_CHANGE * float(np.median(difference)), _LEVELS)
    return changed


def _undone(frame: NDArray[np.uint8], motion: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A frame, grey or RGB, as it would be had the camera not moved to it."""
    back = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = frame.shape[1], frame.shape[0]
    return np.asarray(cv2.warpAffine(frame, _matrix(motion), size, flags=back, borderMode=cv2.BORDER_REPLICATE))


def _matrix(motion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3): from a pixel's place to where its motion takes it."""
    return motion + np.eye(2, 3)
