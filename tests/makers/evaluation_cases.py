"""A small data set in memory and a small model, for the tests of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from aosa_fast import VideoError
from aosa_fast.data import Clip, Dataset, Sample
from aosa_fast.models import Classifier, Preprocessing

CLASSES = ("sit", "stand", "walk")
PREPROCESSING = Preprocessing(frames=6, stride=1, size=20, crop=(20, 20), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1), nn.ReLU())
        self.head = nn.Linear(4, len(CLASSES))
        self.calls = 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.body(video).mean((2, 3, 4)) * 9)


@dataclass(frozen=True, eq=False)
class Memory(Dataset):
    """Clips of noise with a bright square that moves; those of `broken` cannot be read."""

    broken: tuple[str, ...] = ()

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        if sample.id in self.broken:
            raise VideoError(sample.id, "must be a video; it is\nnone")
        number = int(sample.id)
        frames = np.random.default_rng(number).integers(0, 120, (6, 20, 20, 3), dtype=np.uint8)
        boxes = np.zeros((6, 1, 4), np.int32)
        for t in range(6):
            x, y = 2 + t, 3 + number % 9
            frames[t, y : y + 5, x : x + 6] = 255
            boxes[t, 0] = x, y, x + 6, y + 5
        return Clip(frames, boxes, np.arange(6))


def memory(count: int = 7, broken: tuple[str, ...] = ()) -> Memory:
    return Memory("memory", CLASSES, tuple(Sample(str(i), None, i % 3) for i in range(count)), broken=broken)


def classifier() -> Classifier:
    return Classifier(Net().eval(), PREPROCESSING, CLASSES)


def twin() -> Classifier:
    """The same network with other weights."""
    network = Net().eval()
    with torch.no_grad():
        network.head.weight.neg_()
    return Classifier(network, PREPROCESSING, CLASSES)


def stranger() -> Classifier:
    return Classifier(Net().eval(), replace(PREPROCESSING, std=(1, 1, 1)), CLASSES)
