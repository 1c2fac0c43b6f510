"""AOSA within a time: how near its estimates are to exact scores, and to the time: `python bench/budget.py --help`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import actions
import numpy as np
import torch
from harness import Report, Target, interleave, quiet_openmp, threads
from inputs import cell_weights, operands
from torch import Tensor, nn

from aosa_fast import Explanation, explain
from aosa_fast.data import open_dataset
from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.kernels.field import field
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.methods.regression import Regression, choose
from aosa_fast.metrics import overall, spearman
from aosa_fast.models import Classifier, load

FORWARDS = (0, 4, 8, 16, 32, 64)
PAIRS = [f"{name}=rendered:31" for name in ("demo", "demo-attention", "demo-r2plus1d")]
BUDGETS = (100, 200, 400, 800)  # milliseconds
TO_REACH = {16: Target(">=", 0.93), 32: Target(">=", 0.98)}
MEANS = {"Pearson": "r", "Spearman": "r", "within 1.96 errors": "share", "over-all": "area"}  # with their units
SMALL = {"stride": 5, "box": 9}  # for clips of 64 pixels a side


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
    for forwards, values in total.items():
        case = f"mean of {len(values)} networks, M={forwards}"
        report.add(case, "mean Pearson", MEANS["Pearson"], [float(np.mean(values))], TO_REACH.get(forwards))


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


def overshoot(report: Report, calls: int) -> None:
    """How far explanations go beyond their time, in milliseconds and in batches of four tubes."""
    classifier = load("demo")
    pictures = list(clips_of(classifier, "rendered:31", 10))
    explain(classifier, pictures[0], method="aosa", budget_ms=1000, **SMALL)
    report.section(f"Beyond the time, demo network, {calls} calls")
    over, share, tubes = defaultdict(list), [], defaultdict(list)
    for i in range(calls):
        budget = BUDGETS[i % len(BUDGETS)]
        start = time.perf_counter()
        found = explain(classifier, pictures[i % len(pictures)], method="aosa", budget_ms=budget, **SMALL)
        over[budget].append(1e3 * (time.perf_counter() - start) - budget)
        known = found.metadata["self_check"]["budget"][0]["exact_tubes"]
        tubes[budget].append(known)
        if known:
            share.append(over[budget][-1] / (1e3 * found.metadata["seconds"]["sweep"] / np.ceil(known / 4)))
    for budget, values in over.items():
        note = f"{np.median(tubes[budget]):.0f} exact tubes"
        report.add(f"budget {budget} ms", "beyond the time", "ms", values, note=note)
        report.add(f"budget {budget} ms, p99", "beyond the time", "ms", [float(np.percentile(values, 99))])
    report.add("all budgets, p50", "beyond the time / a batch", "ratio", share)
    worst = float(np.percentile(share, 99))
    report.add("all budgets, p99", "beyond the time / a batch", "ratio", [worst], Target("<=", 1))


def parts(report: Report, repeats: int) -> None:
    """What a batch costs beside its forwards: overlaps once for a clip, choice and fit each time."""
    report.section("Overlaps and regression, 16x112x112, K=3, box 16")
    for stride in (8, 4):
        o = operands(stride)
        weights = cell_weights(field(o.video, o.grad))
        overlaps = tube_overlaps(weights, o.boxes, o.members)[0].double()
        draw = torch.Generator().manual_seed(1)
        prior, exact = torch.randn(2, len(overlaps), generator=draw, dtype=torch.float64)
        cases = {"tube_overlaps": partial(tube_overlaps, weights, o.boxes, o.members)}
        for known in (16, 64):
            cases[f"choice and fit, M={known}"] = partial(batch, prior, overlaps, exact, known)
        for count in (1, 2):
            with threads(count):
                for name, seconds in interleave(cases, repeats).items():
                    limit = {8: 6, 4: 60}[stride] if name == "tube_overlaps" else None
                    target = Target("<=", limit) if limit else None
                    report.add(f"{name}, s={stride}", "time", "ms", [1e3 * s for s in seconds], target)


def batch(prior: Tensor, overlaps: Tensor, exact: Tensor, known: int) -> None:
    """The start, of no cost, then one fit to so many answers and the choice of four more tubes."""
    regression = Regression(prior, overlaps, torch.ones_like(prior))
    first = list(range(known))
    regression.tell(first, exact[first])
    choose([regression], 4)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("agreement", "overshoot", "parts"), action="append")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, help="NETWORK=DATA, each")
    parser.add_argument("--clips", type=int, default=24, help="of each data set (24)")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results.csv")
    parser.add_argument("--overwrite", action="store_true", help="with --record, replace rows that exist")
    options = parser.parse_args()
    report = Report("budget")
    for name in options.only or ("agreement", "overshoot", "parts"):
        with threads(1 if name == "agreement" else torch.get_num_threads()):
            if name == "agreement":
                agreement(report, options.pairs, options.clips)
            elif name == "overshoot":
                overshoot(report, options.calls)
            else:
                parts(report, 41)
        if options.record:
            report.record(overwrite=options.overwrite)
    report.summary()


if __name__ == "__main__":
    quiet_openmp()
    sys.exit(main())
