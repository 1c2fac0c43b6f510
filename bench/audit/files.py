"""Data for the audit's benchmark: a folder of rendered videos per class, and a network that costs next to nothing."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from aosa_fast.audit.clip.explainer import is_checked
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.demo.render import render_clip
from aosa_fast.models import Classifier
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video import write_video

HEIGHT, WIDTH, FRAMES = 256, 340, 48
CHECK_SHARE = 0.01
SMALL = "python:aosa_fast.bench.audit.files:small_network"


def write_clips(folder: Path, count: int, different: int = 48) -> None:
    """Writes `count` videos, H.264 of 48 frames of 340x256; beyond `different` ones, files are further names of them.

    The camera pans by a third of the frame. The names are such that a hundredth of the clips, rounded, are held against
    exact scores, as in a large audit.
    """
    written: list[Path] = []
    checked = round(CHECK_SHARE * count)
    for number, name in enumerate(_names(count, checked)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= different:
            os.link(written[number % different], path)
            continue
        clip = render_clip(number, label=number % len(CLASS_NAMES), frames=FRAMES, size=WIDTH, pan=0.3)
        top = (WIDTH - HEIGHT) // 2
        write_video(path, clip.frames[:, top : top + HEIGHT], fps=30.0)
        written.append(path)


def _names(count: int, checked: int) -> list[str]:
    names: list[str] = []
    suffix = 0
    for number in range(count):
        wanted = number * checked // count < (number + 1) * checked // count  # evenly spread
        while True:
            name = f"{CLASS_NAMES[number % len(CLASS_NAMES)]}/clip{suffix:06}.mp4"
            suffix += 1
            if is_checked(name, 0, CHECK_SHARE) == wanted:
                names.append(name)
                break
    return names


def small_network() -> Classifier:
    """A network that sees what r3d_18 sees, for many rows of that size; its spec is `SMALL`."""
    torch.manual_seed(0)
    layers = (nn.Conv3d(3, 8, 4, 4), nn.ReLU(), nn.Conv3d(8, 16, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, len(CLASS_NAMES)))
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    return Classifier(network.eval(), Preprocessing(16, 2, 128, (112, 112), mean, std))
