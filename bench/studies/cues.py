"""How much of a map lies on the cue that a network is known to follow."""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray

from aosa_fast import explain
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.data.dataset import Part
from aosa_fast.demo.planted import KINDS, make_plan
from aosa_fast.evaluation import parse_entries
from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.models import Classifier, load

LEAST = 0.3  # what the cue must be worth to the network on a clip, probability


def clips_of(plan: int, classifier: Classifier, per_class: int) -> list[tuple[torch.Tensor, int, Part]]:
    """Pictures, class and cue of the first clips whose probability falls by 0.3 and more without the cue."""
    dataset = open_dataset(f"planted:{plan}:wrong=0")
    taken: dict[int, int] = defaultdict(int)
    found = []
    for sample in dataset.select(limit=60 * per_class).samples:
        assert sample.label is not None
        if taken[sample.label] >= per_class or make_plan(plan).cues[sample.label] is None:
            continue
        clip = dataset.read(sample, classifier.preprocessing)
        assert clip.parts is not None
        cues = [part for part in clip.parts() if part.name in KINDS]
        if worth(classifier, clip.frames, sample.label) - worth(classifier, cues[0].absent, sample.label) >= LEAST:
            taken[sample.label] += 1
            found.append((torch.from_numpy(clip.frames[None]), sample.label, cues[0]))
    return found


@torch.inference_mode()
def worth(classifier: Classifier, frames: NDArray[np.uint8], label: int) -> float:
    """The probability of a class."""
    return float(classifier.network(classifier.preprocessing.to_input(frames)).softmax(1)[0, label])


def main() -> None:
    """Prints the energy on the cue by kind and method, with 95 % intervals over clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-class", type=int, default=8, help="clips of each class with a cue, per plan")
    parser.add_argument("--methods", nargs="+", default=["aosa-dual", "aosa-path", "integrated-gradients", "motion"])
    options = parser.parse_args()
    entries = parse_entries(options.methods, Config(stride=5, box=9))
    energy: dict[tuple[str, str], list[float]] = defaultdict(list)
    for plan in options.plans:
        classifier = load(f"demo-planted:{plan}")
        for pictures, label, cue in clips_of(plan, classifier, options.per_class):
            for entry in entries:
                saliency = explain(classifier, pictures, label, config=entry.config).saliency[0].clamp(min=0)
                inside = saliency[torch.from_numpy(cue.region)].sum() / saliency.sum().clamp(min=1e-30)
                energy[cue.name, entry.name].append(float(inside))
    for (kind, method), values in sorted(energy.items()):
        print(f"{kind:8s} {method:24s} n={len(values):3d} energy on the cue {interval(values).text(3)}")


if __name__ == "__main__":
    main()
