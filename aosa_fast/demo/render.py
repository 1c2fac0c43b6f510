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

from aosa_fast.demo.kinds import KINDS, SPREAD, make_scene
from aosa_fast.demo.scene import Scene
from aosa_fast.demo.textures import SPLITS
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path
from aosa_fast.video.writer import write_video

_FPS = 8  # of the embedded clip


@dataclass(frozen=True)
class RenderedClip:
    """A clip with its ground truth.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB.
        label: index into `CLASS_NAMES`.
        boxes: (T, 4) int32, `(x0, y0, x1, y1)` of the moving object, pixels, half-open, clipped to the frame.
        seed: what it was rendered from.
        static_boxes: (D, T, 4) int32, the same for the D distractors.
        scene: what it was rendered from.
    """

    frames: np.ndarray
    label: int
    boxes: np.ndarray
    seed: int
    static_boxes: np.ndarray
    scene: Scene


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
    kind: str = "one",
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
        kind: of the scene, among `aosa_fast.demo.kinds.KINDS`. What is said of the moving object here holds for the
            one that the class rests on, which stands still in the kind "still".

    Returns:
        The clip and its ground truth.

    Raises:
        InputError: if an argument is out of its range, or scikit-image is not installed.
    """
    _check(kind, seed, label, frames, size, distractors, split)
    scene = make_scene(kind, seed, label, frames, size, distractors, split, noise, pan, spread)
    if not moving:
        scene = scene.without(scene.answer)
    static = [scene.boxes(k) for k, thing in enumerate(scene.things) if not thing.moves and k != scene.answer]
    static_boxes = np.array(static, np.int32).reshape(-1, frames, 4)
    return RenderedClip(scene.render(), scene.label, scene.boxes(scene.answer), seed, static_boxes, scene)


def _check(kind: str, seed: int, label: int | None, frames: int, size: int, distractors: int, split: str) -> None:
    if label is not None and not 0 <= label < len(CLASS_NAMES):
        raise InputError(f"label must be in 0..{len(CLASS_NAMES) - 1}; got {label}")
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; got {kind}")
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
