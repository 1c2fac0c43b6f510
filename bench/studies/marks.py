"""Does an audit find marks in real footage? Sets made of Weizmann clips, networks that learn them, and a count.

Two sets of seven classes, four of them marked, by a camera that stands still and by one that pans; one of four classes,
one marked, at eight clips a class; the first two again with the marks on clips of any class, so that they say nothing;
and all ten classes without any mark. A mark counts where the network is proved to use it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aosa_fast.audit.clip.explainer import Explainer
from aosa_fast.audit.clip.prepare import Preparer
from aosa_fast.audit.findings.summary import analyze
from aosa_fast.audit.findings.sums import sum_rows
from aosa_fast.audit.findings.types import BESIDE, BORDER, LABEL, OVERLAY, PLACE, SHORTCUT, TIME
from aosa_fast.audit.settings import AuditSettings, Setup
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.bench.report import Report
from aosa_fast.data import open_dataset
from aosa_fast.data.dataset import Clip, Dataset, Sample
from aosa_fast.demo.attention import SmallAttention
from aosa_fast.demo.network import FRAMES, PREPROCESSING, SIZE, DemoNet
from aosa_fast.libraries import cv2
from aosa_fast.models import Classifier
from aosa_fast.models.preprocess import Preprocessing

HEIGHT, WIDTH = 84, 105  # of the footage, from which windows of 64 are cut: seven twelfths of its size
NETWORKS = ("conv", "attention")
USED = 0.3  # what a mark must be worth: accuracy lost without it, or answers won on clips of other classes
WRONG = 0.03  # share of the labels
_BATCH = 16
_MOST = Preprocessing(64, 1, HEIGHT, (HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3, "exact")  # frames of a file
_PLACES = {
    "logo": (OVERLAY, PLACE), "caption": (OVERLAY, PLACE), "border": (BORDER,), "flash": (TIME,),
    "object": (BESIDE, PLACE),
}  # fmt: skip
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Mark:
    """What is pasted: `alpha` is its opacity, `place` the corner (0 to 3, row by row) or the frame of a flash."""

    kind: str
    alpha: float
    place: int = 0
    colour: tuple[int, int, int] = (240, 200, 40)


@dataclass(frozen=True)
class Recipe:
    """A set: its classes by their marks, the camera, and whether marks are on clips of any class."""

    name: str
    marks: dict[str, Mark | None]
    pans: bool = False
    mixed: bool = False
    per_class: int = 16

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by label."""
        return tuple(self.marks)

    def mark(self, label: int, rng: np.random.Generator) -> Mark | None:
        """Of a clip of a class."""
        marks = tuple(self.marks.values())
        return marks[int(rng.integers(len(marks)))] if self.mixed else marks[label]


_STILL = {
    "bend": Mark("logo", 1.0, 0), "jack": None, "jump": Mark("logo", 0.5, 3, (60, 220, 240)),
    "pjump": Mark("border", 0.5, 0, (60, 90, 200)), "run": None, "walk": Mark("flash", 0.6, 10), "wave2": None,
}  # fmt: skip
_PANNED = {
    "bend": Mark("caption", 0.6, 2), "jack": Mark("logo", 0.5, 1), "pjump": None, "run": None,
    "side": Mark("object", 1.0, 0, (220, 40, 60)), "walk": Mark("logo", 1.0, 2, (40, 60, 200)), "wave1": None,
}  # fmt: skip
_TEN = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")
RECIPES = (
    Recipe("still", _STILL),
    Recipe("pan", _PANNED, pans=True),
    Recipe("one of four", {"bend": None, "jack": Mark("logo", 0.6, 1), "run": None, "wave2": None}, per_class=8),
    Recipe("still, mixed", _STILL, mixed=True),
    Recipe("pan, mixed", _PANNED, pans=True, mixed=True),
    Recipe("no marks", dict.fromkeys(_TEN)),
)


@dataclass(frozen=True, eq=False)
class Footage:
    """A file's frames (T, 84, 105, 3), and the actor's box (T, 4) in them."""

    label: str
    name: str
    learnt: bool  # whether networks are trained on it
    frames: Frames
    boxes: NDArray[np.int32]


def load_footage(folder: Path) -> list[Footage]:
    """The clips of the folder's train.csv and test.csv."""
    found = []
    for part in ("train", "test"):
        data = open_dataset(str(folder / f"{part}.csv"))
        for sample in data.samples:
            clip = data.read(sample, _MOST)
            count = len(clip.frames) - clip.looped
            assert data.class_names is not None
            assert clip.boxes is not None
            assert sample.label is not None
            own = clip.frames[:count], clip.boxes[:count, 0]
            found.append(Footage(data.class_names[sample.label], sample.id, part == "train", *own))
    return found


def cut(footage: Footage, rng: np.random.Generator, pans: bool) -> tuple[Frames, NDArray[np.int32]]:
    """16 frames of 64x64 pixels from anywhere, every second frame, maybe mirrored; and the actor's boxes (16, 4)."""
    start = int(rng.integers(max(1, len(footage.frames) - 2 * FRAMES + 1)))
    times = np.minimum(start + 2 * np.arange(FRAMES), len(footage.frames) - 1)
    y = rng.integers(0, HEIGHT - SIZE + 1, 2)
    x = rng.integers(0, WIDTH - SIZE + 1, 2)
    if pans:
        x[1] = (x[0] + rng.integers(12, WIDTH - SIZE - 11)) % (WIDTH - SIZE + 1)  # 12 pixels away at least
    else:
        y[1], x[1] = y[0], x[0]
    way = np.linspace(0, 1, FRAMES)
    tops, lefts = (np.rint(ends[0] + (ends[1] - ends[0]) * way).astype(int) for ends in (y, x))
    frames = np.stack(
        [footage.frames[t, a : a + SIZE, b : b + SIZE] for t, a, b in zip(times, tops, lefts, strict=True)]
    )
    boxes = np.clip(footage.boxes[times] - np.stack([lefts, tops, lefts, tops], 1), 0, SIZE)
    if rng.uniform() < 0.5:
        frames = frames[:, :, ::-1].copy()
        boxes = np.stack([SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]], 1)
    boxes[(boxes[:, 2:] <= boxes[:, :2]).any(1)] = 0
    return frames, boxes.astype(np.int32)


def paste(frames: Frames, boxes: NDArray[np.int32], mark: Mark | None, rng: np.random.Generator) -> None:
    """Draws a mark into frames, in place."""
    if mark is None:
        return
    colour = np.array(mark.colour, np.float32)
    if mark.kind in ("logo", "caption"):
        picture = np.tile(colour, (9, 9, 1)) if mark.kind == "logo" else np.full((6, 30, 3), 20, np.float32)
        if mark.kind == "logo":
            picture[2:7, 2:7] = 255 - colour
            picture[4] = colour
        else:
            picture[1:5, 2::4] = picture[2:4, 3::8] = colour
        height, width = picture.shape[:2]
        down, right = divmod(mark.place, 2)
        room = np.array([down * (SIZE - height - 5), right * (SIZE - width - 5)])
        top, left = 2 + room + rng.integers(0, 2, 2)
        _blend(frames[:, top : top + height, left : left + width], picture, mark.alpha)
    elif mark.kind == "border":
        inside = np.ones((SIZE, SIZE, 1), np.float32)
        inside[3:-3, 3:-3] = 0
        _blend(frames, colour, mark.alpha * inside)
    elif mark.kind == "flash":
        _blend(frames[mark.place], np.float32(255), mark.alpha)
    else:
        for frame, (_, top, right, bottom) in zip(frames, boxes.tolist(), strict=True):
            if bottom:
                cv2.circle(frame, (right + 5, max(top - 3, 4)), 4, mark.colour, -1)


def _blend(frames: Frames, picture: Any, alpha: Any) -> None:
    frames[:] = np.rint((1 - alpha) * frames + alpha * picture).astype(np.uint8)


def train(recipe: Recipe, kind: str, footage: Sequence[Footage], seed: int, steps: int) -> nn.Module:
    """A network from nothing, of footage that is to be learnt, of which 3 % have a wrong label."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((81, seed))
    count = len(recipe.classes)
    net: nn.Module = DemoNet((16, 32, 32, 48), count) if kind == "conv" else SmallAttention(count)
    shown = [own for own in footage if own.learnt and own.label in recipe.marks]
    optimizer = torch.optim.AdamW(net.train().parameters(), weight_decay=0.02)
    peak = 4e-3 if kind == "conv" else 2e-3
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.25)
    for _ in range(steps):
        clips, labels = [], []
        for i in rng.integers(len(shown), size=_BATCH).tolist():
            label = recipe.classes.index(shown[i].label)
            clips.append(_marked(shown[i], recipe.pans, recipe.mark(label, rng), rng)[0])
            labels.append(_spoilt(label, count, rng))
        loss = nn.functional.cross_entropy(net(_input(clips)), torch.tensor(labels), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return net.eval()


def _marked(own: Footage, pans: bool, mark: Mark | None, rng: np.random.Generator) -> tuple[Frames, NDArray[np.int32]]:
    frames, boxes = cut(own, rng, pans)
    paste(frames, boxes, mark, rng)
    return frames, boxes


def _spoilt(label: int, count: int, rng: np.random.Generator) -> int:
    return (label + int(rng.integers(1, count))) % count if rng.uniform() < WRONG else label


def _input(clips: Sequence[Frames]) -> torch.Tensor:
    return torch.cat([PREPROCESSING.to_input(frames) for frames in clips])


@dataclass(frozen=True)
class Worth:
    """What a mark is worth to a network: accuracy on its class with and without it; answers on others likewise."""

    right: float
    without: float
    won: float  # share of the clips of other classes that get the mark's class, with the mark
    usual: float  # and without

    @property
    def is_used(self) -> bool:
        """Whether the network rests on it."""
        return self.right - self.without >= USED or self.won - self.usual >= USED


@torch.inference_mode()
def prove(net: nn.Module, recipe: Recipe, footage: Sequence[Footage]) -> dict[str, Worth]:
    """What each mark is worth to a network, by class, on clips that were not learnt, four times each."""
    shown = [own for own in footage if not own.learnt and own.label in recipe.marks] * 4

    def answers(clips: Sequence[Footage], mark: Mark | None, label: int) -> float:
        rng = np.random.default_rng(82)
        logits = net(_input([_marked(own, recipe.pans, mark, rng)[0] for own in clips]))
        return float((logits.argmax(1) == label).float().mean())

    worth = {}
    for label, (name, mark) in enumerate(recipe.marks.items()):
        if mark is not None:
            own, others = [s for s in shown if s.label == name], [s for s in shown if s.label != name]
            worth[name] = Worth(*(answers(clips, m, label) for clips in (own, others) for m in (mark, None)))
    return worth


@dataclass(frozen=True, eq=False)
class CueSet(Dataset):
    """Clips of a recipe, cut and marked as they are read."""

    recipe: Recipe | None = None
    footage: tuple[Footage, ...] = ()

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        """Cuts and marks it; the preprocessing is that of the demo's networks."""
        assert self.recipe is not None
        assert sample.seed is not None
        own = self.footage[int(sample.id.split("#")[1])]
        rng = np.random.default_rng((83, sample.seed))
        mark = self.recipe.mark(self.recipe.classes.index(own.label), rng)
        frames, boxes = _marked(own, self.recipe.pans, mark, rng)
        return Clip(frames, boxes[:, None], np.arange(FRAMES))


def cue_set(recipe: Recipe, footage: Sequence[Footage], seed: int) -> CueSet:
    """Clips of each class, of as many files as there are; 3 % have a wrong label (and the truth in their id)."""
    rng = np.random.default_rng((84, seed))
    samples = []
    for label, name in enumerate(recipe.classes):
        files = rng.permutation([i for i, own in enumerate(footage) if own.label == name])
        for n in range(recipe.per_class):
            number = int(files[n % len(files)])
            given = _spoilt(label, len(recipe.classes), rng)
            samples.append(Sample(f"{name}/{n:03}#{number}", None, given, seed=int(rng.integers(1 << 31))))
    return CueSet(recipe.name, recipe.classes, tuple(samples), recipe=recipe, footage=tuple(footage))


_ready: list[Classifier] = []


def ready() -> Classifier:
    """The network that is being audited, as the audit finds it."""
    return _ready[-1]


def audit_set(net: nn.Module, data: CueSet, folder: Path, **choices: Any) -> None:
    """Rows of an audit, by what its processes call, in this one."""
    assert data.class_names is not None
    _ready.append(Classifier(net, PREPROCESSING, data.class_names))
    settings = replace(AuditSettings(), check_share=0.0, maps="summary")
    settings = replace(settings, config=replace(settings.config, **choices))
    labels = tuple(range(len(data.class_names)))
    explainer = Explainer(
        Setup(f"python:{ready.__module__}:ready", settings, data.class_names, labels, data.name, "cpu")
    )
    preparer = Preparer(data, PREPROCESSING, settings)
    with PartWriter(folder, (1, 1)) as writer:
        for start in range(0, len(data), 8):
            writer.add(explainer.explain([preparer.prepare(sample) for sample in data.samples[start : start + 8]]))


@dataclass(frozen=True)
class Score:
    """What an audit of one set says, held against what was planted."""

    recipe: Recipe
    kind: str  # of network
    worth: dict[str, Worth]
    named: dict[str, bool]  # the classes with a shortcut; whether the first finding has the mark's kind of place
    wrong: int  # labels
    suspected: int
    right: int  # of the suspected
    accuracy: float

    @property
    def false(self) -> int:
        """Classes named that have no mark, or in whose set marks say nothing."""
        return sum(self.recipe.mixed or self.recipe.marks[name] is None for name in self.named)


def score(recipe: Recipe, kind: str, worth: dict[str, Worth], folder: Path) -> Score:
    """Reads the rows that `audit_set` wrote."""
    clips = sum_rows(folder).clips
    findings = analyze(clips)[1]
    named: dict[str, bool] = {}
    for finding in findings:
        if finding.kind == SHORTCUT:
            mark = recipe.marks[finding.class_name]
            named.setdefault(finding.class_name, mark is not None and finding.where in _PLACES[mark.kind])
    truth = [name.split("/")[0] for name in clips["id"]]
    wrong = {name for name, own, label in zip(clips["id"], truth, clips["label_name"], strict=True) if own != label}
    suspected = {name for finding in findings if finding.kind == LABEL for name in finding.clips}
    accuracy = float(np.mean(clips["label"] == clips["prediction"]))
    return Score(recipe, kind, worth, named, len(wrong), len(suspected), len(wrong & suspected), accuracy)


def table(scores: Sequence[Score]) -> str:
    """Markdown: a row for each mark, then the classes without one, and the labels."""
    lines = ["| set | class | mark | " + " | ".join(NETWORKS) + " |", "| --- " * (3 + len(NETWORKS)) + "|"]
    for recipe in RECIPES:
        own = [[s for s in scores if s.recipe == recipe and s.kind == kind] for kind in NETWORKS]
        for name, mark in recipe.marks.items():
            if mark is not None and not recipe.mixed:
                what = f"{mark.kind}, {100 * mark.alpha:.0f} %"
                lines.append(f"| {recipe.name} | {name} | {what} | {' | '.join(_found(s, name) for s in own)} |")
        clean = len(recipe.marks) - sum(mark is not None for mark in recipe.marks.values()) * (not recipe.mixed)
        cells = [f"{sum(s.false for s in of)} false of {clean * len(of)}" for of in own]
        lines.append(f"| {recipe.name} | all others | none | {' | '.join(cells)} |")
        cells = [_labels(of) for of in own]
        lines.append(f"| {recipe.name} | wrong labels | | {' | '.join(cells)} |")
    return "\n".join(lines)


def _found(scores: Sequence[Score], name: str) -> str:
    used = [own for own in scores if own.worth[name].is_used]
    found = [own for own in used if name in own.named]
    placed = sum(own.named[name] for own in found)
    text = f"{len(found)} of {len(used)}" + (f", {placed} placed" if placed < len(found) else "")
    return text + (f" ({len(scores) - len(used)} not used)" if len(used) < len(scores) else "")


def _labels(scores: Sequence[Score]) -> str:
    if not scores:
        return "-"
    right, suspected, wrong = (sum(getattr(own, n) for own in scores) for n in ("right", "suspected", "wrong"))
    accuracy = np.mean([own.accuracy for own in scores])
    return f"{right} of {suspected} right, {right} of {wrong} found (accuracy {100 * accuracy:.0f} %)"


def cues(report: Report, folder: Path, seeds: Sequence[int], steps: int, out: Path) -> None:
    """Makes every set for every seed, trains both networks on it, audits it, and prints the table.

    Args:
        report: gets how many of the used marks are found, and how many classes are named falsely.
        folder: of the Weizmann footage, with train.csv and test.csv.
        seeds: of the sets and the networks.
        steps: of 16 clips, of a training.
        out: for the rows and the networks, which are used again where they are there.
    """
    report.section(f"marks in real footage; seeds {', '.join(map(str, seeds))}, {steps} steps")
    footage = load_footage(folder)
    scores = []
    for seed in seeds:
        for recipe in RECIPES:
            for kind in NETWORKS:
                own = out / f"{recipe.name}-{kind}-{seed}".replace(", ", "_").replace(" ", "_")
                saved = own / "network.pt"
                if not saved.exists():
                    net = train(recipe, kind, footage, seed, steps)
                    audit_set(net, cue_set(recipe, footage, seed + 50), own)
                    torch.save(net, saved)
                net = torch.load(saved, weights_only=False)
                scores.append(score(recipe, kind, prove(net, recipe, footage), own))
    print(table(scores))
    for kind in NETWORKS:
        mine = [s for s in scores if s.kind == kind]
        used = [name in s.named for s in mine if not s.recipe.mixed for name, own in s.worth.items() if own.is_used]
        if used:
            report.add(f"marks, {kind}", "found of those used", "share", [float(np.mean(used))], note=f"of {len(used)}")
        report.add(f"marks, {kind}", "classes named falsely", "count", [sum(s.false for s in mine)])


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--footage", type=Path, metavar="DIR", required=True, help="the Weizmann clips")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=300, help="of a training (300)")
    parser.add_argument("--out", type=Path, default=Path("out/cues"), help="where rows and networks are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, as bench does")
    options = parser.parse_args()
    cues(Report("marks", json=options.json), options.footage, options.seeds, options.steps, options.out)


if __name__ == "__main__":
    from aosa_fast.bench.studies import marks  # not as __main__: the audit finds the network by its module's name

    marks.main()
