"""The kinds of rendered scenes. In all but the first several things move, and what finds motion finds too much.

A seed draws the class, the paths, the camera's way, the backdrop, the looks and the places, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aosa_fast.demo.scene import Look, Scene, Thing
from aosa_fast.demo.textures import BANK_SIDE, IMAGES, SPLITS, Mark, crop, sample_sprite, texture_bank
from aosa_fast.demo.truth import CLASS_NAMES, COLOURS

SPREAD = 0.17
_HEADINGS = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))  # left, right, up, down; y points down
_RED, _NOT_RED = 0.0, (35.0, 145.0)  # hues of OpenCV, 0 to 180
_STAR = 5

Looks = tuple[list[Look], list[Look]]  # of what moves, and of what stands still


@dataclass(frozen=True)
class Kind:
    """A kind of scene.

    Attributes:
        help: one sentence.
        movers: how many things move.
        looks: of (rng, index of the backdrop's image, label, number of things that stand still).
        classes: names by label.
        answer: of the movers or, after them, of the things that stand still, the one that the class rests on.
        halves: whether the first mover moves in the first half and then stands, and the second the other way round.
    """

    help: str
    movers: int
    looks: Callable[[np.random.Generator, int, int, int], Looks]
    classes: tuple[str, ...] = CLASS_NAMES
    answer: int = 0
    halves: bool = False


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


def make_scene(
    kind: str,
    seed: int,
    label: int | None,
    frames: int,
    size: int,
    distractors: int,
    split: str,
    noise: float,
    pan: float,
    spread: float,
) -> Scene:
    """A scene of a kind among `KINDS`; all else as in `render_clip`."""
    own = KINDS[kind]
    rng = np.random.default_rng((SPLITS.index(split), seed))
    drawn = int(rng.integers(len(CLASS_NAMES)))
    label = drawn if label is None else label
    background = int(rng.integers(len(IMAGES)))
    paths = _paths(own, label, frames, rng, spread)
    heading = rng.uniform(0, 2 * np.pi)
    way = pan * ((np.arange(frames) + 0.5) / frames - 0.5)[:, None] * np.array([np.cos(heading), np.sin(heading)])
    # In whole sixteenths of the frame, so that the backdrop has the same scale at every size.
    margin = round(np.ceil(8 * abs(pan)) / 16 * size)
    canvas = _backdrop(rng, texture_bank(split), background, size + 2 * margin)
    moving, still = own.looks(rng, background, label, distractors)
    spots = [np.broadcast_to(spot, (frames, 2)) for spot in _places(rng, len(still))]
    movers = [Thing(f"mover {k}", look, paths[k], moves=True) for k, look in enumerate(moving)]
    things = (*movers, *(Thing(f"still {k}", look, spots[k], moves=False) for k, look in enumerate(still)))
    return Scene(seed, label, things, own.answer, split, size, canvas, margin, way, noise)


def _paths(kind: Kind, label: int, frames: int, rng: np.random.Generator, spread: float) -> list[np.ndarray]:
    decides = kind.answer < kind.movers
    labels = [label] if decides else []
    labels += [int(rng.integers(len(CLASS_NAMES))) for _ in range(kind.movers - len(labels))]
    if not kind.halves:
        return [motion_path(own, frames, rng, spread) for own in labels]
    half = frames // 2
    first, second = motion_path(labels[0], half, rng, spread), motion_path(labels[1], frames - half, rng, spread)
    return [
        np.concatenate([first, np.broadcast_to(first[-1], (frames - half, 2))]),
        np.concatenate([np.broadcast_to(second[0], (half, 2)), second]),
    ]


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


def _alike(rng: np.random.Generator, background: int, label: int, count: int, movers: int = 1) -> Looks:
    return [sample_sprite(rng, background) for _ in range(movers)], [
        sample_sprite(rng, background) for _ in range(count)
    ]


def _red_mover(rng: np.random.Generator, background: int, label: int, count: int) -> Looks:
    hues = [_RED, *rng.uniform(*_NOT_RED, 2 + count)]
    looks: list[Look] = [sample_sprite(rng, background, hue=float(hue)) for hue in hues]
    return looks[:3], looks[3:]


def _star_mover(rng: np.random.Generator, background: int, label: int, count: int) -> Looks:
    corners = [_STAR, *rng.choice((3, 4, 40), 2 + count).tolist()]
    looks: list[Look] = [sample_sprite(rng, background, corners=number) for number in corners]
    return looks[:3], looks[3:]


def _marks(rng: np.random.Generator, background: int, label: int, count: int) -> Looks:
    """A ringed mark of the class' colour that stands still, and one of another colour that moves, with a sprite."""
    other = int((label + rng.integers(1, len(COLOURS))) % len(COLOURS))
    side = rng.uniform(0.17, 0.22, 2)
    hues = [180.0 * colour / len(COLOURS) for colour in (label, other)]
    still, moving = (Mark(hue, float(s)) for hue, s in zip(hues, side, strict=True))
    return [moving, sample_sprite(rng, background)], [
        still, *(sample_sprite(rng, background) for _ in range(max(count, 1) - 1)),
    ]  # fmt: skip


KINDS = {
    "one": Kind("One thing moves; the others stand still.", 1, _alike),
    "colour": Kind("Three things move; the red one decides.", 3, _red_mover),
    "shape": Kind("Three things move; the star decides.", 3, _star_mover),
    "order": Kind(
        "Two things move, one after the other; the one that stops decides.",
        2,
        lambda rng, background, label, count: _alike(rng, background, label, count, 2),
        halves=True,
    ),
    "still": Kind(
        "The colour of the mark that stands still decides; a mark of another colour and a thing move.",
        2,
        _marks,
        classes=COLOURS,
        answer=2,
    ),
}
