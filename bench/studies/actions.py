"""Small networks trained on one's own clips, and explanations of them.

One thread each, so that two trainings fit beside each other on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aosa_fast.config import Config
from aosa_fast.data import Dataset, open_dataset
from aosa_fast.data.window import read_window
from aosa_fast.demo.network import DemoNet, load_weights
from aosa_fast.demo.r2plus1d import R2Plus1D
from aosa_fast.demo.train import SMOOTHING
from aosa_fast.demo.train import save as save_weights
from aosa_fast.errors import InputError
from aosa_fast.evaluation import Settings, evaluate, parse_entries, write_results
from aosa_fast.models import Classifier
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.resize import resize

FRAMES, STRIDE, SIZE = 16, 2, 64
HELD = 72  # the side at which whole clips are held in memory, pixels
_BATCH = 16
_PEAK_RATE = 4e-3
_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "conv": lambda classes: DemoNet(classes=classes),
    "r2plus1d": R2Plus1D,
}


@dataclass(frozen=True)
class _Clips:
    """Training clips: whole, (T, 72, 72, 3) uint8 each, and their labels."""

    frames: list[NDArray[np.uint8]]
    labels: list[int]

    @staticmethod
    def read(data: Dataset) -> _Clips:
        clips = _Clips([], [])
        for s in data.samples:
            if s.path and s.label is not None:
                window = read_window(s.path, 1_000_000, 1, s.start, s.end, convert=lambda f: resize(f, HELD, HELD))
                clips.frames.append(window.frames)
                clips.labels.append(s.label)
        return clips

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and spread of each channel, of pixels in [0, 1]."""
        pixels = np.concatenate([clip.reshape(-1, 3) for clip in self.frames]) / np.float32(255)
        return tuple(pixels.mean(0, np.float64).tolist()), tuple(pixels.std(0, dtype=np.float64).tolist())

    def window(self, number: int, rng: np.random.Generator) -> Tensor:
        """A random window of a clip, cropped, mirrored, lightened: (3, 16, 64, 64) float32, pixels in [0, 1]."""
        clip = self.frames[number]
        span = (FRAMES - 1) * STRIDE + 1
        start = int(rng.integers(max(1, len(clip) - span + 1)))
        # Short clips are looped, as the evaluation does.
        part = clip[start::STRIDE] if len(clip) >= span else clip[::STRIDE]
        side = int(rng.integers(SIZE - 8, HELD + 1))
        top, left = rng.integers(0, HELD - side + 1, 2)
        part = part[np.arange(FRAMES) % len(part), top : top + side, left : left + side]
        if rng.uniform() < 0.5:
            part = part[:, :, ::-1]
        video = torch.from_numpy(np.ascontiguousarray(part)).permute(3, 0, 1, 2).float() / 255
        video = nn.functional.interpolate(video, (SIZE, SIZE), mode="bilinear", antialias=True)
        return video * float(rng.uniform(0.8, 1.2)) + float(rng.uniform(-0.1, 0.1))


def train(data: Dataset, network: str, steps: int, seed: int = 0) -> Classifier:
    """A network trained from nothing on random windows, in evaluation mode."""
    clips = _Clips.read(data)
    names = data.class_names or tuple(map(str, range(max(clips.labels) + 1)))
    mean, std = clips.moments()
    shift, scale = (torch.tensor(v).reshape(3, 1, 1, 1) for v in (mean, std))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = _NETWORKS[network](len(names)).train().to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=steps, pct_start=0.25)
    start = time.monotonic()
    for step in range(steps):
        chosen = rng.choice(len(clips.frames), min(_BATCH, len(clips.frames)), replace=False)
        videos = (torch.stack([clips.window(k, rng) for k in chosen.tolist()]) - shift) / scale
        labels = torch.tensor([clips.labels[k] for k in chosen.tolist()])
        logits = net(videos.contiguous(memory_format=torch.channels_last_3d))
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)
    net = net.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    # Whole frames are squeezed: who walks is at an edge of many.
    preprocessing = Preprocessing(FRAMES, STRIDE, SIZE, (SIZE, SIZE), mean, std, resize="exact")
    return Classifier(net, preprocessing, names)


def save(classifier: Classifier, network: str, file: Path) -> None:
    """Writes what `load` reads."""
    assert isinstance(classifier.network, nn.Module)
    about: dict[str, object] = {
        "network": network,
        "classes": classifier.class_names,
        "preprocessing": classifier.preprocessing.as_dict(),
    }
    save_weights(classifier.network, file, about)


def load(file: Path) -> Classifier:
    """A trained network."""
    about = json.loads(torch.load(file, map_location="cpu", weights_only=True)["meta"])
    names = tuple(about["classes"])
    net = load_weights(_NETWORKS[about["network"]](len(names)), file)
    return Classifier(net, Preprocessing.from_dict(about["preprocessing"]), names)


@torch.inference_mode()
def accuracy(classifier: Classifier, data: Dataset) -> float:
    """The share of clips whose class is the network's first answer; the middle window of each."""
    right = []
    for sample in data.samples:
        video = classifier.preprocessing.to_input(data.read(sample, classifier.preprocessing).frames)
        right.append(int(classifier.network(video).argmax()) == sample.label)
    return float(np.mean(right))


def two_windows(data: Dataset) -> Dataset:
    """The first and the last window of each clip in the place of the middle one; one window of a clip with no more."""
    samples = []
    for sample in data.samples:
        length = len(read_window(str(sample.path), 1_000_000, 1, convert=lambda frame: frame[:1, :1]).frames)
        last = max(0, length - (FRAMES - 1) * STRIDE - 1)
        samples += [replace(sample, id=f"{sample.id}@{start}", start=start) for start in sorted({0, last})]
    return replace(data, samples=tuple(samples))


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, or evaluates; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m aosa_fast.bench.studies.actions", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("--network", choices=_NETWORKS, required=True)
    training.add_argument("--steps", type=int, default=400, help="of 16 windows each (400)")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--test", help="data to tell the accuracy on")
    evaluating = commands.add_parser("evaluate")
    evaluating.add_argument("--network", type=Path, required=True, help="what train wrote")
    evaluating.add_argument("--methods", default="aosa-approx,grad-cam,integrated-gradients,random,centre")
    evaluating.add_argument("--metrics", default="deletion,pointing")
    evaluating.add_argument("--two-windows", action="store_true", help="the first and the last window of each clip")
    for command in (training, evaluating):
        command.add_argument("--data", required=True, help="as aosa-fast evaluate takes it")
        command.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        {"train": _train, "evaluate": _evaluate}[given.command](given)
    except InputError as error:
        parser.error(str(error))
    finally:
        torch.set_num_threads(threads)


def _train(given: argparse.Namespace) -> None:
    classifier = train(open_dataset(given.data), given.network, given.steps, given.seed)
    save(classifier, given.network, given.out)
    if given.test:
        print(f"accuracy {accuracy(classifier, open_dataset(given.test)):.3f}")


def _evaluate(given: argparse.Namespace) -> None:
    data = open_dataset(given.data)
    data = two_windows(data) if given.two_windows else data
    entries = parse_entries(given.methods.split(","), Config(stride=5, box=9, radius=4))
    # The disk of 7 pixels is meant for 112 a side.
    settings = Settings(metrics=tuple(given.metrics.split(",")), radius=4)
    given.out.mkdir(parents=True, exist_ok=True)
    name = str(given.network)
    found = evaluate(data, load(given.network), entries, given.out, settings, model_name=name)
    print(write_results(found, given.out, " ".join(["python", *sys.argv]))["table"].read_text())


if __name__ == "__main__":
    main()
