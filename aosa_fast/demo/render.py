"""Rendered clips whose class is the motion of one object, and nothing else.

Static distractors come from the distribution that the moving object comes from, and their places do not depend on
its path, so that one frame does not tell which sprite moves. Run as a module to write the embedded clip again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from aosa_fast.demo.textures import BANK_SIDE, IMAGES, SPLITS, crop, paste, sample_sprite, texture_bank
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path
from aosa_fast.libraries import cv2
from aosa_fast.video.writer import write_video

SPREAD = 0.17
_FPS = 8  # of the embedded clip
_HEADINGS = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # left, right, up, down; y points down


@dataclass(frozen=True)
class RenderedClip:
    """A clip with its ground truth.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB.
        label: index into `CLASS_NAMES`.
        boxes: (T, 4) int32, `(x0, y0, x1, y1)` of the moving object, pixels, half-open, clipped to the frame.
        seed: what it was rendered from.
        static_boxes: (D, T, 4) int32, the same for the D distractors.
    """

    frames: np.ndarray
    label: int
    boxes: np.ndarray
    seed: int
    static_boxes: np.ndarray


def motion_path(label: int, frames: int, rng: np.random.Generator, spread: float = SPREAD) -> np.ndarray:
    """Centre of a moving object over time, (T, 2) float64, `(x, y)` in sides of the frame.

    The middle of the path has the same distribution for all classes, and the same numbers are drawn for each of them.
    `spread` is how far it is from the middle of the frame, at most, in sides of the frame.
    """
    middle = 0.5 + spread * rng.uniform(-1, 1, 2)
    travel, radius, turns, phase = rng.uniform((0.36, 0.14, 0.85, 0), (0.52, 0.19, 1.1, 2 * np.pi))
    u = (np.arange(frames) + 0.5) / frames - 0.5
    if label < len(_HEADINGS):
        return np.asarray(middle + travel * u[:, None] * np.array(_HEADINGS[label]))
    angle = phase + 2 * np.pi * turns * u * (1 if CLASS_NAMES[label] == "clockwise" else -1)
    return np.asarray(middle + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _places(rng: np.random.Generator, count: int) -> np.ndarray:
    """(D, 2) centres, as far from each other as the best of 12 draws; blind to the moving object."""
    draws = rng.uniform(0.1, 0.9, (12, count, 2))
    gaps = np.linalg.norm(draws[:, :, None] - draws[:, None], axis=-1) + 9 * np.eye(count)
    return np.asarray(draws[gaps.reshape(12, -1).min(axis=1).argmax()]) if count else draws[0]


def _backdrop(rng: np.random.Generator, bank: tuple[np.ndarray, ...], image: int, size: int) -> np.ndarray:
    x, y, zoom, gain = rng.uniform((0, 0, 0.7, 0.55), (1, 1, 1, 0.85))
    grey = rng.uniform(85, 150)
    texture = crop(bank[image], x, y, zoom * BANK_SIDE, size)
    # Photographs differ in brightness: centre them, so that no class of scene is dark.
    return np.asarray(np.clip(grey + gain * (texture - texture.mean()), 0, 255), np.float32)


def render_clip(
    seed: int,
    *,
    label: int | None = None,
    frames: int = 16,
    size: int = 64,
    distractors: int = 3,
    split: str = "test",
    noise: float = 4.0,
    pan: float = 0.0,
    moving: bool = True,
    spread: float = SPREAD,
) -> RenderedClip:
    """Render one clip; the same seed is the same scene at every size, and the same bytes at the same size.

    Args:
        seed: not negative.
        label: index into `CLASS_NAMES`; None lets the seed choose. It changes the motion and nothing else.
        frames: T.
        size: side of the frames, pixels; the sprites scale with it.
        distractors: number of sprites that stand still.
        split: "train" or "test", which share no texture region.
        noise: standard deviation of the sensor noise, grey levels of 255.
        pan: way of the camera over the clip, in sides of the frame.
        moving: False leaves the moving object out of the picture (and its boxes in).
        spread: how far from the middle of the frame the moving object's path may lie, in sides of the frame. Beyond
            the default it leaves the frame for a part of some clips.

    Returns:
        The clip and its ground truth.

    Raises:
        InputError: if an argument is out of its range, or scikit-image is not installed.
    """
    _check(seed, label, frames, size, distractors, split)
    bank = texture_bank(split)
    rng = np.random.default_rng((SPLITS.index(split), seed))
    drawn = int(rng.integers(len(CLASS_NAMES)))
    label = drawn if label is None else label
    background = int(rng.integers(len(IMAGES)))
    path = motion_path(label, frames, rng, spread)
    heading = rng.uniform(0, 2 * np.pi)
    way = pan * ((np.arange(frames) + 0.5) / frames - 0.5)[:, None] * np.array([np.cos(heading), np.sin(heading)])
    # In whole sixteenths of the frame, so that the backdrop has the same scale at every size.
    margin = round(np.ceil(8 * abs(pan)) / 16 * size)
    canvas = _backdrop(rng, bank, background, size + 2 * margin)
    mover = sample_sprite(rng, background)
    still = [sample_sprite(rng, background) for _ in range(distractors)]
    places = _places(rng, distractors)
    for sprite, place in zip(still, places, strict=True):
        paste(canvas, *sprite.draw(bank, size), place * size + margin)
    texels, span = mover.draw(bank, size)
    video = np.empty((frames, size, size, 3), np.float32)
    for t in range(frames):
        video[t] = _look(canvas, margin + way[t] * size, size) if pan else canvas
        if moving:
            paste(video[t], texels, span, (path[t] - way[t]) * size)
    boxes = mover.boxes(path - way, size)
    static = [s.boxes(p - way, size) for s, p in zip(still, places, strict=True)]
    static_boxes = np.array(static, np.int32).reshape(-1, frames, 4)
    return RenderedClip(_sense(video, noise, seed), label, boxes, seed, static_boxes)


def _sense(video: np.ndarray, noise: float, seed: int) -> np.ndarray:
    frames, size = video.shape[:2]
    grain = np.random.default_rng((2, seed)).standard_normal((frames * size, size), np.float32)
    # Grey grain, and one pass that rounds and saturates: this is most of the time at 64 pixels.
    grey = cv2.cvtColor(grain, cv2.COLOR_GRAY2RGB)
    pixels = cv2.addWeighted(video.reshape(grey.shape), 1.0, grey, noise, 0.0, dtype=cv2.CV_8U)
    return np.asarray(pixels).reshape(video.shape)


def _look(canvas: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]])
    return np.asarray(cv2.warpAffine(canvas, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE))


def _check(seed: int, label: int | None, frames: int, size: int, distractors: int, split: str) -> None:
    if label is not None and not 0 <= label < len(CLASS_NAMES):
        raise InputError(f"label must be in 0..{len(CLASS_NAMES) - 1}; got {label}")
    if split not in SPLITS:
        raise InputError(f"split must be one of {SPLITS}; got {split!r}")
    limits = (("seed", seed, 0), ("frames", frames, 1), ("size", size, 16), ("distractors", distractors, 0))
    for name, value, least in limits:
        if value < least:
            raise InputError(f"{name} must be at least {least}; got {value}")


def write_clip(folder: Path, seed: int, size: int) -> RenderedClip:
    """Write a test clip, which is returned, and its ground truth to `clip.mp4` and `clip.json` in a folder."""
    clip = render_clip(seed, size=size, split="test")
    write_video(folder / "clip.mp4", clip.frames, _FPS)
    truth = {
        "label": clip.label,
        "class_name": CLASS_NAMES[clip.label],
        "seed": seed,
        "size": size,
        "frames": len(clip.frames),
        "fps": _FPS,
        "boxes": clip.boxes.tolist(),
    }
    with atomic_path(folder / "clip.json") as partial:
        partial.write_text(json.dumps(truth) + "\n", encoding="utf-8")
    return clip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the embedded clip again; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m aosa_fast.demo.render", description="Write a demo clip.")
    parser.add_argument("--out", type=Path, required=True, help="folder for clip.mp4 and clip.json")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--size", type=int, default=256, help="side of the frames, pixels")
    given = parser.parse_args(arguments)
    try:
        clip = write_clip(given.out, given.seed, given.size)
    except InputError as error:
        parser.error(str(error))
    Console().print(f"wrote {given.out / 'clip.mp4'}: {CLASS_NAMES[clip.label]}")


if __name__ == "__main__":
    main()
