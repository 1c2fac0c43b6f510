"""AOSA within a time: how near its estimates are to exact scores."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aosa_fast import Explanation, explain
from aosa_fast.bench.budget import SMALL
from aosa_fast.bench.harness import threads
from aosa_fast.bench.report import Report, Target
from aosa_fast.bench.studies import actions
from aosa_fast.data import open_dataset
from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.metrics import overall, spearman
from aosa_fast.models import Classifier, load

FORWARDS = (0, 4, 8, 16, 32, 64)
PAIRS = [f"{name}=rendered:31" for name in ("demo", "demo-attention", "demo-r2plus1d")]
TO_REACH = {16: Target(">=", 0.93), 32: Target(">=", 0.98)}
MEANS = {"Pearson": "r", "Spearman": "r", "within 1.96 errors": "share", "over-all": "area"}  # with their units


class Counted(nn.Module):
    """A network that counts the clips it is given, by which `counting` tells the time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.clips = network, 0

    def forward(self, video: Tensor) -> Tensor:
        """As the network's own."""
        self.clips += len(video)
        logits: Tensor = self.network(video)
        return logits

    @contextmanager
    def counting(self) -> Iterator[None]:
        """A second is a forward of one clip, so that a budget is a number of forwards."""
        before, time.perf_counter = time.perf_counter, lambda: float(self.clips)
        try:
            yield
        finally:
            time.perf_counter = before


def agreement(report: Report, pairs: Sequence[str], count: int) -> None:
    """Estimates against exact scores, and what their maps are worth, by forwards; a pair is NETWORK=DATA."""
    total: dict[int, list[float]] = defaultdict(list)
    for pair in pairs:
        name, _, data = pair.partition("=")
        report.section(f"Estimates against exact scores, {name} on {data}")
        rows: dict[int, list[tuple[float, ...]]] = defaultdict(list)
        classifier = load(name) if not name.endswith(".pt") else actions.load(Path(name))
        for video in clips_of(classifier, data, count):
            for forwards, row in curve(classifier, video).items():
                rows[forwards].append(row)
        label = Path(name).stem
        for forwards, found in rows.items():
            exact = forwards not in FORWARDS
            case = f"{label}, {Path(data).name}, {len(found)} clips, M={'N' if exact else forwards}"
            for (metric, unit), values in zip(MEANS.items(), zip(*found, strict=True), strict=True):
                known = [value for value in values if not np.isnan(value)]
                if known:
                    report.add(case, f"mean {metric}", unit, [float(np.mean(known))], note=interval(known).text(3))
            if not exact:
                total[forwards].append(float(np.mean([row[0] for row in found])))
    report.section("Mean of the networks")
    for forwards, means in total.items():
        case = f"mean of {len(means)} networks, M={forwards}"
        report.add(case, "mean Pearson", MEANS["Pearson"], [float(np.mean(means))], TO_REACH.get(forwards))


def clips_of(classifier: Classifier, data: str, count: int) -> Iterator[Tensor]:
    """Pictures (1, T, H, W, 3) uint8 of a data set's first clips; FILE@WORD+WORD: both windows of clips so named."""
    file, _, words = data.partition("@")
    dataset = open_dataset(file)
    if words:
        dataset = actions.two_windows(dataset)
    samples = [s for s in dataset.samples if not words or any(word in s.id for word in words.split("+"))]
    for sample in samples[:count]:
        yield torch.from_numpy(np.ascontiguousarray(dataset.read(sample, classifier.preprocessing).frames[None]))


def curve(classifier: Classifier, pictures: Tensor) -> dict[int, tuple[float, ...]]:
    """By forwards: what `near` says, and over-all from the fill."""
    assert isinstance(classifier.network, nn.Module)
    model = Counted(classifier.network)
    own = Classifier(model, classifier.preprocessing, classifier.class_names)
    exact = explain(own, pictures, method="aosa", **SMALL)
    found = {exact.scores.shape[1]: exact}
    for forwards in FORWARDS:
        with model.counting():  # one forward is the gradient's
            found[forwards] = explain(own, pictures, method="aosa", budget_ms=1e3 * (1.5 + forwards), **SMALL)
        assert found[forwards].metadata["self_check"]["budget"][0]["exact_tubes"] >= forwards
    video = classifier.preprocessing.to_input(pictures[0].numpy())
    maps = torch.cat([one.saliency for one in found.values()])
    many = video.expand(len(maps), -1, -1, -1, -1).contiguous()
    worth = overall(classifier.network, many, maps, exact.target.index.expand(len(maps)), protocol="aosa-28-fill").area
    return {
        forwards: (*near(one, exact), float(area)) for (forwards, one), area in zip(found.items(), worth, strict=True)
    }


def near(found: Explanation, exact: Explanation) -> tuple[float, float, float]:
    """Pearson, Spearman, and the share within 1.96 errors (NaN: there are none)."""
    both = torch.stack([found.scores[0], exact.scores[0]]).double()
    pearson = float(torch.corrcoef(both)[0, 1])
    ranks = float(spearman(found.scores.reshape(1, 1, 1, -1), exact.scores.reshape(1, 1, 1, -1))[0])
    within = float("nan")
    if found.exact is not None and found.exact.any() and not found.exact.all():
        rest = ~found.exact[0]
        assert found.standard_error is not None
        miss = (both[0] - both[1]).abs()[rest] / found.standard_error[0][rest]
        within = float((miss < 1.96).double().mean())
    return pearson, ranks, within


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=PAIRS, help="NETWORK=DATA, each")
    parser.add_argument("--clips", type=int, default=24, help="of each data set (24)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, as bench does")
    options = parser.parse_args()
    report = Report("agreement", json=options.json)
    with threads(1):
        agreement(report, options.pairs, options.clips)
    report.summary()


if __name__ == "__main__":
    main()
