"""Train the embedded classifier on clips that are rendered on the fly: `python -m aosa_fast.demo.train`.

A patch of the mean colour (0 after normalisation) that follows a moving object moves as the object does, so a plain
motion classifier would still see the class. Half of the training clips are therefore occluded: decoy patches that
move like any class change nothing, and with the object itself hidden no class is right (uniform target).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aosa_fast.demo import CLASS_NAMES
from aosa_fast.demo.network import FRAMES, SIZE, WEIGHTS, DemoNet, hide, report, to_input
from aosa_fast.demo.render import RenderedClip, motion_path, render_clip
from aosa_fast.errors import InputError

SMOOTHING = 0.1
_PEAK_RATE = 4e-3
_PLAIN = 0.3  # share of the steps, at the start, without occlusion: motion is learnt sooner


@dataclass(frozen=True)
class TrainConfig:
    """What a training run is made of; the same values give the same weights on the same machine and threads."""

    steps: int = 500
    seed: int = 0
    clips_per_step: int = 24

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("seed", 0), ("clips_per_step", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}; got {getattr(self, name)}")


def _decoy(rng: np.random.Generator) -> np.ndarray:
    """(T, 4) boxes that move like a random class, or stand still, and are 10 to 40 % of the frame on a side."""
    path = motion_path(int(rng.integers(len(CLASS_NAMES))), FRAMES, rng) + rng.uniform(-0.2, 0.2, 2)
    if rng.uniform() < 0.2:
        path = np.broadcast_to(path[:1], path.shape)
    half = rng.uniform(0.05, 0.2, 2)
    return np.asarray(np.rint(np.concatenate([path - half, path + half], axis=1) * SIZE), np.int64)


def _occlude(video: torch.Tensor, clip: RenderedClip, rng: np.random.Generator) -> bool:
    """Hide a part of one training clip in place; False if that part was the moving object."""
    kind = rng.uniform()
    if kind < 0.45:
        return True
    if kind < 0.65:
        grow = rng.integers(0, 5, 2)
        hide(video, clip.boxes + np.concatenate([-grow, grow]))
        return False
    if kind < 0.85:
        for _ in range(rng.integers(1, 3)):
            hide(video, _decoy(rng))
        return True
    cells = torch.from_numpy(rng.uniform(size=(8, 8)) < rng.uniform(0.1, 0.5)).repeat_interleave(SIZE // 8, 0)
    video[:, :, cells.repeat_interleave(SIZE // 8, 1)] = 0
    return True


def _batch(config: TrainConfig, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch number `step`: (B, 3, T, H, W) float32 and its (B, 6) target probabilities."""
    rng = np.random.default_rng((3, config.seed, step))
    first = (config.seed * 1_000_000 + step) * config.clips_per_step
    videos, targets = [], []
    for k in range(config.clips_per_step):
        pan = float(rng.uniform(0, 0.1)) if rng.uniform() < 0.25 else 0.0
        clip = render_clip(first + k, size=SIZE, frames=FRAMES, split="train", pan=pan, noise=float(rng.uniform(0, 6)))
        video = to_input(clip.frames)[0]
        visible = step < _PLAIN * config.steps or _occlude(video, clip, rng)
        smoothing = SMOOTHING if visible else 1.0
        target = torch.full((len(CLASS_NAMES),), smoothing / len(CLASS_NAMES))
        target[clip.label] += 1 - smoothing
        videos.append(video)
        targets.append(target)
    return torch.stack(videos), torch.stack(targets)


def _batches(config: TrainConfig) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All batches in order, each rendered while the one before it is being learnt."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_batch, config, 0)
        for step in range(config.steps):
            ready = waiting.result()
            if step + 1 < config.steps:
                waiting = pool.submit(_batch, config, step + 1)
            yield ready


def train(config: TrainConfig, progress: Progress) -> DemoNet:
    """Train a network from nothing.

    Args:
        config: what to run.
        progress: a started display whose columns show the field `state` (loss and rate).

    Returns:
        The network in eval mode.
    """
    torch.manual_seed(config.seed)
    # Channels last: about a quarter less time a step of 24 clips, on 2 cores of an AMD EPYC.
    net = DemoNet().train().to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_PEAK_RATE, weight_decay=0.02)
    task = progress.add_task("training", total=config.steps, state="")
    start = time.monotonic()
    for step, (videos, targets) in enumerate(_batches(config)):
        for group in optimizer.param_groups:
            group["lr"] = _one_cycle(step / config.steps)
        loss = torch.nn.functional.cross_entropy(net(videos.contiguous(memory_format=torch.channels_last_3d)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        speed = (step + 1) / (time.monotonic() - start)
        progress.update(task, advance=1, state=f"loss {loss.item():.3f}, {speed:.2f} steps/s")
    return net.to(memory_format=torch.contiguous_format).eval()


def _one_cycle(done: float) -> float:
    """Learning rate: up over the first quarter, then down to a hundredth along a cosine."""
    if done < 0.25:
        return _PEAK_RATE * (0.05 + 0.95 * done / 0.25)
    return _PEAK_RATE * (0.01 + 0.99 * (0.5 + 0.5 * float(np.cos(np.pi * (done - 0.25) / 0.75))))


def save(net: DemoNet, path: Path, meta: dict[str, object]) -> None:
    """Write weights and metadata such that no reader ever sees half a file.

    Args:
        net: what to write.
        path: the `.pt` file.
        meta: kept as a JSON string, because `weights_only` loading allows plain types only.
    """
    partial = path.with_name(path.name + ".partial")
    torch.save({"state": net.state_dict(), "meta": json.dumps(meta, sort_keys=True)}, partial)
    os.replace(partial, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate, print and save; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m aosa_fast.demo.train", description="Train the demo classifier.")
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--clips-per-step", type=int, default=TrainConfig.clips_per_step)
    parser.add_argument("--test-clips", type=int, default=300, help="unseen clips to evaluate on")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args(arguments)
    console = Console()
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("{task.fields[state]}"))
    try:
        config = TrainConfig(given.steps, given.seed, given.clips_per_step)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            net = train(config, progress)
    except InputError as error:
        parser.error(str(error))
    numbers = report(net, given.test_clips)
    for name, value in numbers.items():
        console.print(f"{name:28s} {value:.4f}")
    save(net, given.out, {**asdict(config), **numbers, "torch": torch.__version__, "classes": CLASS_NAMES})
    console.print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
