"""Train the embedded classifiers on clips that are rendered on the fly: `python -m aosa_fast.demo.train`.

A patch of the mean colour (0 after normalisation) that follows a moving object moves as the object does, so a plain
motion classifier still sees the class. With occlusion, half of the training clips are therefore occluded: decoy
patches that move like any class change nothing, and with the object itself hidden no class is right (uniform target).
`DemoNet` is trained so; `DemoAttention` is not, as the networks that people bring have not been either.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from aosa_fast.demo.attention import WEIGHTS as ATTENTION_WEIGHTS
from aosa_fast.demo.attention import DemoAttention
from aosa_fast.demo.classifiers import BUILDERS, R2PLUS1D_WEIGHTS, SCENE_NETWORKS, scene_weights
from aosa_fast.demo.kinds import KINDS, SPREAD, motion_path
from aosa_fast.demo.network import FRAMES, SIZE, DemoNet, hide, load_weights, report, to_input
from aosa_fast.demo.network import WEIGHTS as NET_WEIGHTS
from aosa_fast.demo.render import RenderedClip, render_clip
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path

SMOOTHING = 0.1
Batch = tuple[torch.Tensor, torch.Tensor]
"""Videos (B, 3, T, H, W) float32, and what cross entropy takes as their targets."""

_PAN = (0.3, 0.1)  # widest way of the camera, in sides of the frame, of the other kinds and of "one"
_PLAIN = 0.3  # share of the steps, at the start, without occlusion: motion is learnt sooner


@dataclass(frozen=True)
class Recipe:
    """How a kind of network is trained, where the command does not say otherwise.

    Attributes:
        weights: the file that it is shipped in for scenes of the kind "one", or None.
        spread: the widest that paths of the moving object are drawn with, see `render_clip`.
        threads: of torch, on which the last digits of all results depend; 0 leaves them as they are.
        peak_rate: highest learning rate.
        rise: share of the steps in which the rate rises to it.
        factors: of the rate, for the parameters whose names start so.
        clip: longest gradient, in its 2-norm.
        layout: of weights and clips. Channels last takes `DemoNet` about a quarter less time a step of 24 clips, on 2
            cores of an AMD EPYC.
    """

    build: Callable[[], nn.Module]
    weights: Path | None
    occlusion: bool
    spread: float
    steps: int
    threads: int
    peak_rate: float
    rise: float
    factors: dict[str, float] = field(default_factory=dict)
    clip: float = math.inf
    layout: torch.memory_format = torch.contiguous_format


RECIPES = {
    "conv": Recipe(DemoNet, NET_WEIGHTS, True, SPREAD, 500, 0, 4e-3, 0.25, layout=torch.channels_last_3d),
    # Filters that move fast are noise before anything is learnt. In a trial of 60 steps, with the mean of all tokens in
    # place of the blocks, the loss stayed at chance (1.8) at a rate of 1e-3, and was 1.3 with the filters left alone.
    "attention": Recipe(
        DemoAttention, ATTENTION_WEIGHTS, False, 0.35, 1000, 1, 2e-3, 0.1, factors={"stem": 0.02, "head": 4}, clip=1.0
    ),
    "small": Recipe(BUILDERS["small"], None, False, 0.25, 1500, 1, 4e-3, 0.25, layout=torch.channels_last_3d),
    "r2plus1d": Recipe(
        BUILDERS["r2plus1d"], R2PLUS1D_WEIGHTS, False, 0.35, 1000, 1, 4e-3, 0.25, layout=torch.channels_last_3d
    ),
}


@dataclass(frozen=True)
class TrainConfig:
    """What a training run is made of; the same values give the same weights on the same machine and threads."""

    network: str = "conv"
    kind: str = "one"
    start: str | None = None
    occlusion: bool = True
    spread: float = SPREAD
    steps: int = 500
    seed: int = 0
    clips_per_step: int = 24

    def __post_init__(self) -> None:
        if self.network not in RECIPES:
            raise InputError(f"network must be one of {', '.join(RECIPES)}; got {self.network}")
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


def _batch(config: TrainConfig, step: int) -> Batch:
    """Batch number `step`: (B, 3, T, H, W) float32 and its (B, 6) target probabilities."""
    rng = np.random.default_rng((3, config.seed, step))
    first = (config.seed * 1_000_000 + step) * config.clips_per_step
    videos, targets = [], []
    for k in range(config.clips_per_step):
        pan = float(rng.uniform(0, _PAN[config.kind == "one"])) if rng.uniform() < 0.25 else 0.0
        noise = float(rng.uniform(0, 6))
        spread = float(rng.uniform(SPREAD, config.spread)) if config.spread > SPREAD else config.spread
        looks: dict[str, Any] = {"pan": pan, "noise": noise, "spread": spread, "kind": config.kind}
        clip = render_clip(first + k, size=SIZE, frames=FRAMES, split="train", **looks)
        video = to_input(clip.frames)[0]
        visible = not config.occlusion or step < _PLAIN * config.steps or _occlude(video, clip, rng)
        smoothing = SMOOTHING if visible else 1.0
        target = torch.full((len(CLASS_NAMES),), smoothing / len(CLASS_NAMES))
        target[clip.label] += 1 - smoothing
        videos.append(video)
        targets.append(target)
    return torch.stack(videos), torch.stack(targets)


def rendered_ahead(batch: Callable[[int], Batch], steps: int) -> Iterator[Batch]:
    """`batch` of 0 to steps - 1, each rendered while the one before it is being learnt."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batch, 0)
        for step in range(1, steps + 1):
            ready = waiting.result()
            if step < steps:
                waiting = pool.submit(batch, step)
            yield ready


def train(config: TrainConfig, progress: Progress) -> nn.Module:
    """A network trained from nothing, in eval mode.

    Args:
        config: what to run.
        progress: a started display whose columns show the field `state` (loss and rate).
    """
    recipe = RECIPES[config.network]
    torch.manual_seed(config.seed)
    net = recipe.build()
    if config.start is not None:
        load_weights(net, Path(config.start)).requires_grad_(True)
    net = net.train().to(memory_format=recipe.layout)
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        factor = next((f for start, f in recipe.factors.items() if name.startswith(start)), 1.0)
        groups.setdefault(factor, []).append(parameter)
    optimizer = torch.optim.AdamW([{"params": p, "factor": f} for f, p in groups.items()], weight_decay=0.02)
    task = progress.add_task("training", total=config.steps, state="")
    start = time.monotonic()
    for step, (videos, targets) in enumerate(rendered_ahead(partial(_batch, config), config.steps)):
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * _one_cycle(step / config.steps, recipe)
        loss = nn.functional.cross_entropy(net(videos.contiguous(memory_format=recipe.layout)), targets)
        optimizer.zero_grad()
        loss.backward()
        if recipe.clip < math.inf:
            nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        optimizer.step()
        speed = (step + 1) / (time.monotonic() - start)
        progress.update(task, advance=1, state=f"loss {loss.item():.3f}, {speed:.2f} steps/s")
    return net.to(memory_format=torch.contiguous_format).eval()


def _one_cycle(done: float, recipe: Recipe) -> float:
    """Learning rate: up over the first part, then down to a hundredth along a cosine."""
    if done < recipe.rise:
        return recipe.peak_rate * (0.05 + 0.95 * done / recipe.rise)
    fall = (done - recipe.rise) / (1 - recipe.rise)
    return recipe.peak_rate * (0.01 + 0.99 * (0.5 + 0.5 * float(np.cos(np.pi * fall))))


def save(net: nn.Module, path: Path, meta: dict[str, object]) -> None:
    """Write weights and metadata to a `.pt` file, of which no reader ever sees a half."""
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        # As a JSON string, because `weights_only` loading allows plain types only.
        text = json.dumps({**meta, "torch": torch.__version__}, sort_keys=True)
        torch.save({"state": net.state_dict(), "meta": text}, file)


def _shipped(network: str, kind: str) -> Path | None:
    """The file in which a network for a kind of scenes is shipped, if it is."""
    if kind == "one":
        return RECIPES[network].weights
    return scene_weights(kind) if SCENE_NETWORKS.get(kind) == network else None


def tell(numbers: dict[str, float], path: Path, console: Console) -> None:
    """Print what was measured of a network, and where it lies."""
    for name, value in numbers.items():
        console.print(f"{name:34s} {value:.4f}")
    console.print(f"wrote {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate, print and save; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m aosa_fast.demo.train", description="Train a demo classifier.")
    parser.add_argument("--network", choices=RECIPES, default=TrainConfig.network)
    parser.add_argument(
        "--kind", choices=KINDS, default=TrainConfig.kind, help=" ".join(f"{n}: {k.help}" for n, k in KINDS.items())
    )
    parser.add_argument("--start", help="file of weights to begin with")
    parser.add_argument("--steps", type=int, help="; ".join(f"{n}: {r.steps}" for n, r in RECIPES.items()))
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--clips-per-step", type=int, default=TrainConfig.clips_per_step)
    parser.add_argument("--occlusion", action=argparse.BooleanOptionalAction, help="default: for conv only")
    parser.add_argument("--spread", type=float, help="; ".join(f"{n}: {r.spread}" for n, r in RECIPES.items()))
    parser.add_argument("--test-clips", type=int, default=300, help="unseen clips to evaluate on")
    parser.add_argument("--out", type=Path, help="default: the file that is shipped")
    given = parser.parse_args(arguments)
    recipe = RECIPES[given.network]
    out = given.out or _shipped(given.network, given.kind)
    if out is None:
        parser.error(f"out must be given: no network={given.network} is shipped for kind={given.kind}")
    chosen = {name: getattr(given, name) for name in ("steps", "occlusion", "spread")}
    chosen = {name: getattr(recipe, name) if value is None else value for name, value in chosen.items()}
    console = Console()
    columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("{task.fields[state]}"))
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads or threads)
    try:
        sizes = {"seed": given.seed, "clips_per_step": given.clips_per_step}
        config = TrainConfig(given.network, given.kind, given.start, **sizes, **chosen)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            net = train(config, progress)
    except InputError as error:
        parser.error(str(error))
    finally:
        torch.set_num_threads(threads)
    numbers = report(net, given.test_clips, given.kind)
    if given.network in BUILDERS:
        net.half()  # half the bytes; loaded into float32 again
    save(net, out, {**asdict(config), **numbers, "classes": KINDS[given.kind].classes})
    tell(numbers, out, console)


if __name__ == "__main__":
    main()
