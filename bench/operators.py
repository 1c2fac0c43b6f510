"""Operators at the paper's size, and the dense-mask way as their yardstick."""

from __future__ import annotations

from functools import partial

import torch

from aosa_fast.bench.baselines import dense_scores_and_map, dense_whole, numpy_partners
from aosa_fast.bench.harness import Cases, interleave, ratios, threads
from aosa_fast.bench.inputs import Operands, cell_weights, moving_frames, operands, random_tracks
from aosa_fast.bench.report import Report, Target
from aosa_fast.kernels.field import conditional_mean, field
from aosa_fast.kernels.occlude import occlude
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.kernels.tube_scores import tube_scores
from aosa_fast.methods.flow import optical_flow

BOXES = (4, 8, 16, 32, 56)
THREADS = (1, 2)


def _many(quick: bool) -> int:
    return 5 if quick else 100


def explain_part(o: Operands) -> None:
    """What AOSA-approx adds to the gradient: field, scores, map."""
    relevance = field(o.video, o.grad)
    scores = tube_scores(relevance, o.boxes, o.members)
    saliency_map(scores, o.boxes, o.members, *relevance.shape[2:])


def single_operators(report: Report, quick: bool) -> None:
    """Each operator alone, at 1 and 2 threads."""
    report.section("Operators, 16x112x112, C=3, K=3, box 16, smooth random flow")
    limits = {("track_anchors", 4): Target("<=", 1)}
    limits |= {("tube_overlaps", 8): Target("<=", 6), ("tube_overlaps", 4): Target("<=", 60)}
    for stride in (8, 4):
        o = operands(stride)
        relevance = field(o.video, o.grad)
        scores = tube_scores(relevance, o.boxes, o.members)
        fill = conditional_mean(o.video)
        batch, clips = torch.empty(8, *o.video.shape[1:]), torch.zeros(8, dtype=torch.int32)
        height, width = relevance.shape[2:]
        weights = cell_weights(relevance)
        shared: Cases = {
            "field": partial(field, o.video, o.grad),
            "conditional_mean": partial(conditional_mean, o.video),
        }
        cases: Cases = {
            "tube_scores": partial(tube_scores, relevance, o.boxes, o.members),
            "saliency_map": partial(saliency_map, scores, o.boxes, o.members, height, width),
            "tube_overlaps": partial(tube_overlaps, weights, o.boxes, o.members),
            "track_anchors": partial(track_anchors, o.flow, stride),
            "rasterize_boxes": partial(rasterize_boxes, o.tracks, o.alive, (16, 16), height, width),
            "select_partners": partial(select_partners, o.tracks, 3),
            "occlude, batch 8": partial(occlude, o.video, fill, o.boxes, o.members[0, :8], clips, batch),
        }
        if stride == 8:
            cases = shared | cases
        for count in THREADS:
            with threads(count):
                for name, seconds in interleave(cases, _many(quick)).items():
                    case = name if name in shared else f"{name}, s={stride}"
                    report.time(case, seconds, target=limits.get((name, stride)))


def together(report: Report, quick: bool) -> None:
    """Field, scores and map, and how far the box size matters."""
    report.section("field + tube_scores + saliency_map together")
    found = optical_flow(moving_frames())
    for count in THREADS:
        with threads(count):
            cases: Cases = {}
            for stride in (8, 4):
                cases[f"smooth flow, s={stride}, box 16"] = partial(explain_part, operands(stride))
                cases[f"moving clip, s={stride}, box 16"] = partial(explain_part, operands(stride, flow=found))
            for name, seconds in interleave(cases, _many(quick)).items():
                report.time(name, seconds, target=Target("<=", 3) if "s=4" in name else None)
    for stride in (8, 4):
        boxes: Cases = {f"s={stride}, box {box}": partial(explain_part, operands(stride, box)) for box in BOXES}
        timed = interleave(boxes, _many(quick))
        for name, seconds in timed.items():
            report.time(f"flatness, {name}", seconds)
        spread = [max(times) / min(times) for times in zip(*timed.values(), strict=True)]
        report.add(f"flatness, s={stride}, box 4 to 56", "slowest / fastest box", "ratio", spread)


def partners(report: Report, quick: bool) -> None:
    """Co-occurrence and top-K against NumPy, which uses all cores whatever the number of threads here."""
    report.section("select_partners, K=3, against normalise, U @ U.T, argpartition in NumPy")
    for count, frames, limit in ((784, 16, None), (784, 32, Target("<=", 3)), (4096, 32, Target("<=", 100))):
        tracks = random_tracks(count, frames)
        array = tracks[0].numpy()
        cases: Cases = {"ours": partial(select_partners, tracks, 3), "NumPy": partial(numpy_partners, array, 3)}
        rounds = 3 if quick else 50 if count < 1000 else 10
        for number in THREADS:
            with threads(number):
                timed = interleave(cases, rounds)
                case = f"N={count}, T={frames}"
                report.time(f"select_partners, {case}", timed["ours"], target=limit)
                report.time(f"NumPy, {case}", timed["NumPy"])
                report.add(f"NumPy / ours, {case}", "speedup", "ratio", ratios(timed["NumPy"], timed["ours"]))


def yardstick(report: Report, quick: bool) -> None:
    """Scores and map by dense float masks, all at once as the authors do, and in chunks."""
    report.section("tube_scores + saliency_map against dense masks")
    for stride in (8,) if quick else (8, 4):
        o = operands(stride)
        relevance = field(o.video, o.grad)

        def ours(o: Operands = o, relevance: torch.Tensor = relevance) -> None:
            scores = tube_scores(relevance, o.boxes, o.members)
            saliency_map(scores, o.boxes, o.members, *relevance.shape[2:])

        timed = interleave(
            {
                "ours": ours,
                "dense, chunked": partial(dense_scores_and_map, relevance[0], o.boxes[0], o.members[0]),
                "dense, whole": partial(dense_whole, relevance[0], o.boxes[0], o.members[0]),
            },
            1 if quick else 5,
            warmup=1,
        )
        for name, seconds in timed.items():
            report.time(f"{name}, s={stride}", seconds)
            if name != "ours":
                report.add(f"{name} / ours, s={stride}", "time ratio", "ratio", ratios(seconds, timed["ours"]))
        # By count: what has to exist at once. Ours: two summed tables or difference arrays a thread, scores per frame.
        frames, height, width = relevance.shape[1:]
        tubes = o.boxes.shape[1]
        dense = 4 * tubes * frames * height * width
        table = 16 * (height + 1) * (width + 1) * torch.get_num_threads()
        sparse = table + 8 * frames * tubes + 8 * frames * height * width  # + the map and its coverage
        report.add(f"dense masks alone, s={stride}", "memory by count", "MB", [dense / 1e6])
        report.add(f"ours, s={stride}", "memory by count", "MB", [sparse / 1e6])
        report.add(f"dense / ours, s={stride}", "memory ratio", "ratio", [dense / sparse])
