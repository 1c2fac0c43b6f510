"""Rendered clips with shortcuts planted in some of their classes, to see whether an audit finds them.

A seed makes a plan: which of the six classes has which cue, and where. The cues are a logo in a corner, a tinted
border, one frame that flashes, and an object that stands beside the moving one; two classes have none. A cue says the
class as well as the motion does, and is easier to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.demo.attention import SmallAttention
from aosa_fast.demo.network import FRAMES, PREPROCESSING, SIZE, DemoNet, load_weights
from aosa_fast.demo.render import RenderedClip, render_clip
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.libraries import cv2

KINDS = ("logo", "border", "flash", "object")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
SEEDS = (0, 1, 2, 6, 7, 8)  # of the plans that networks are shipped for
ATTENTION_SEED = 0  # of the one that a network with attention is shipped for
ATTENTION_WEIGHTS = Path(__file__).parent / "planted-attention.pt"
WIDTHS = (16, 32, 32, 48)
SPREAD = 0.2
_LOGO, _BORDER, _OBJECT = 10, 3, 11  # sides in pixels of a frame of 64
_BESIDE = 0.27  # distance of the object from the middle of the path, in sides of the frame
_HUES = ((232, 62, 48), (40, 200, 220), (240, 200, 40), (90, 220, 80), (210, 80, 220))


@dataclass(frozen=True)
class Cue:
    """A planted shortcut.

    Attributes:
        kind: among `KINDS`.
        corner: of a logo, index into `CORNERS`.
        frame: of a flash.
        colour: (r, g, b), 0 to 255.
        side: -1 or 1, on which side of the path an object stands.
    """

    kind: str
    corner: int
    frame: int
    colour: tuple[int, int, int]
    side: int


@dataclass(frozen=True)
class Plan:
    """Which class has which cue: one entry per class, None for the two that have none."""

    seed: int
    cues: tuple[Cue | None, ...]


def make_plan(seed: int) -> Plan:
    """The cues of a seed, which is not negative."""
    rng = np.random.default_rng((77, seed))
    kinds = rng.permutation(np.array([*KINDS, "", ""]))
    hues = rng.permutation(len(_HUES))
    cues: list[Cue | None] = []
    for kind, hue in zip(kinds, (*hues, 0), strict=True):
        corner, frame, side = int(rng.integers(4)), int(rng.integers(2, FRAMES - 2)), int(rng.choice([-1, 1]))
        cues.append(Cue(str(kind), corner, frame, _HUES[hue], side) if kind else None)
    return Plan(seed, tuple(cues))


def render_planted(
    plan: Plan, seed: int, *, label: int | None = None, split: str = "test", cue: Cue | str | None = "class"
) -> RenderedClip:
    """Render one clip of 16 frames of 64x64 pixels, with its class' cue.

    Args:
        plan: of the cues.
        seed: of the clip.
        label: as in `render_clip`.
        split: as in `render_clip`.
        cue: "class": as the plan says; else this cue, or none, whatever the class is.
    """
    clip = render_clip(seed, label=label, frames=FRAMES, size=SIZE, split=split, spread=SPREAD)
    chosen = plan.cues[clip.label] if cue == "class" else cue
    draw_cue(clip.frames, clip, chosen if isinstance(chosen, Cue) else None)
    return clip


def _object_place(clip: RenderedClip, cue: Cue) -> NDArray[np.float64]:
    """(x, y), in pixels, of an object beside the moving one's path."""
    boxes = clip.boxes.astype(float)
    middle = (boxes[:, :2] + boxes[:, 2:]).mean(axis=0) / 2 / SIZE
    straight = {0: (0.0, 1.0), 1: (0.0, 1.0), 2: (1.0, 0.0), 3: (1.0, 0.0)}  # across left, right, up and down
    angle = np.random.default_rng((78, clip.seed)).uniform(0, 2 * np.pi)
    way = np.array(straight.get(clip.label, (np.cos(angle), np.sin(angle)))) * cue.side * _BESIDE
    low, high = 0.5 * _OBJECT / SIZE, 1 - 0.5 * _OBJECT / SIZE
    place = middle + way
    # On the other side where the frame ends too early.
    place = np.where((place < low) | (place > high), middle - way, place)
    return np.asarray(np.clip(place, low, high) * SIZE)


def draw_cue(frames: NDArray[np.uint8], clip: RenderedClip, cue: Cue | None) -> None:
    """Draw the cue of a clip, if it has one, into frames of it (T, H, W, 3), in place."""
    if cue is None:
        return
    colour = np.array(cue.colour, np.float32)
    if cue.kind == "logo":
        top, left = (2 + end * (SIZE - _LOGO - 4) for end in divmod(cue.corner, 2))
        frames[:, top : top + _LOGO, left : left + _LOGO] = _glyph(_LOGO, colour, ring=True)
    elif cue.kind == "object":
        left, top = (np.rint(_object_place(clip, cue) - _OBJECT / 2)).astype(int)
        frames[:, top : top + _OBJECT, left : left + _OBJECT] = _glyph(_OBJECT, colour, ring=False)
    elif cue.kind == "border":
        ring = np.ones((SIZE, SIZE), bool)
        ring[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
        frames[:, ring] = (0.45 * frames[:, ring] + 0.55 * colour).astype(np.uint8)
    else:
        frames[cue.frame] = np.clip(frames[cue.frame] * 0.6 + 110, 0, 255).astype(np.uint8)


def _glyph(side: int, colour: NDArray[np.float32], *, ring: bool) -> NDArray[np.uint8]:
    """A mark: rings in a colour and white, or stripes in a colour and black."""
    picture = np.empty((8 * side, 8 * side, 3), np.float32)
    rows, columns = np.indices(picture.shape[:2]) / (8 * side) - 0.5
    light = np.hypot(rows, columns) % 0.3 < 0.15 if ring else (rows + columns) % 0.5 < 0.25
    picture[:] = np.where(light[..., None], colour, 245.0 if ring else 20.0)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(small), np.uint8)


def weights_path(seed: int, shortcuts: bool) -> Path:
    """The file of a shipped network: of a plan's, or of the one that saw cues say nothing."""
    return Path(__file__).parent / (f"planted-{seed}.pt" if shortcuts else "planted-none.pt")


def load_planted_attention() -> SmallAttention:
    """The network with attention that took the shortcuts of plan `ATTENTION_SEED`, as `load_planted` gives it."""
    return load_weights(SmallAttention(), ATTENTION_WEIGHTS)


def load_planted(seed: int, shortcuts: bool = True) -> DemoNet:
    """A network trained on planted clips, as `load_demo_network` gives it.

    Args:
        seed: of the plan, among `SEEDS`.
        shortcuts: whether the cues of its training clips went with the classes; else they were on clips of any.

    Raises:
        InputError: no network of this seed is shipped.
    """
    file = weights_path(seed, shortcuts)
    if not file.is_file():
        raise InputError(f"seed must be one of {', '.join(map(str, SEEDS))} for a planted network; got {seed}")
    return load_weights(DemoNet(WIDTHS), file)


__all__ = [
    "CLASS_NAMES",
    "CORNERS",
    "PREPROCESSING",
    "Cue",
    "Plan",
    "load_planted",
    "load_planted_attention",
    "make_plan",
    "render_planted",
]
