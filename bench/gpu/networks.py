"""The networks that the GPU benchmark explains, and the calls on them that it times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import aosa_fast
from aosa_fast.bench.gpu.clock import Clock
from aosa_fast.bench.gpu.timesformer import timesformer
from aosa_fast.bench.inputs import MEAN, STD, moving_frames
from aosa_fast.bench.network import forward, forward_and_backward, in_batches
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Target
from aosa_fast.explanation import Explanation
from aosa_fast.inference.precision import precision
from aosa_fast.kernels.pictures import normalize_frames

# Seconds by method and stride in Table V of the paper, on its authors' machine. It has R3D alone.
TABLE_V = {("aosa-approx", 8): 0.302, ("aosa-approx", 4): 1.028, ("aosa", 8): 0.728}


@dataclass(frozen=True)
class Network:
    """A network and its clips: B = 1, T `frames` of `side` x `side` pixels."""

    name: str
    make: Callable[[], nn.Module]
    frames: int
    side: int
    strides: tuple[int, ...]
    box: int
    rounds: int
    paper: dict[tuple[str, int], float] = field(default_factory=dict)
    limit: Target | None = None  # of AOSA-approx with our flow, ms

    def note(self, method: str, stride: int) -> str:
        """What the paper's Table V says of it."""
        seconds = self.paper.get((method, stride))
        return f"Table V: {1e3 * seconds:g} ms" if seconds else "not in Table V"


@dataclass(frozen=True)
class Setup:
    """What is explained, and how often. The first network is also swept exactly."""

    networks: tuple[Network, ...]
    dtypes: tuple[str, ...] = ("float32", "tf32", "bfloat16")
    batches: tuple[int, ...] = (1, 8, 16, 32, 64, 128)  # of the bare model
    sweeps: int = 7  # rounds of exact AOSA
    stages: int = 15  # explanations with the device idle between stages

    def quick(self) -> Setup:
        """The same with a few rounds."""
        networks = tuple(replace(network, rounds=3) for network in self.networks)
        return replace(self, networks=networks, batches=(8, 32), sweeps=2, stages=2)


def tiny() -> nn.Module:
    """Stands in for R3D-50 in a rehearsal."""
    torch.manual_seed(0)
    body = (nn.Conv3d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(4, 5)).eval()


FULL = Setup(
    (
        Network("R3D-50", r3d50, 16, 112, (8, 4), 16, 80, TABLE_V, Target("<=", 8)),
        Network("R3D-50 on SlowFast's 32x256x256", r3d50, 32, 256, (10,), 20, 20),
        Network("TimeSformer-B/16, 8x224x224", timesformer, 8, 224, (8,), 16, 20),
    )
)
REHEARSAL = Setup(
    (
        Network("R3D-50 (tiny)", tiny, 3, 32, (8, 4), 8, 1, TABLE_V, Target("<=", 8)),
        Network(
            "TimeSformer (tiny)", partial(timesformer, frames=2, side=32, width=8, depth=1, heads=2), 2, 32, (8,), 8, 1
        ),
    ),
    dtypes=("float32", "bfloat16"),
    batches=(1, 2),
    sweeps=1,
    stages=1,
)


class Ready:
    """A network on the device, its pictures in main memory, and calls that leave the device idle."""

    def __init__(self, network: Network, clock: Clock) -> None:
        self.network, self.clock = network, clock
        self.model = network.make().to(clock.device)
        self.pictures = torch.from_numpy(moving_frames(network.frames, network.side))
        mean, std = (torch.tensor(values, device=clock.device) for values in (MEAN, STD))
        self.video = normalize_frames(self.pictures.to(clock.device), mean, std)

    def explain(self, method: str, stride: int, dtype: str, flow: str = "farneback") -> Explanation:
        """Host to host."""
        options: dict[str, Any] = {"method": method, "stride": stride, "box": self.network.box, "dtype": dtype}
        found = aosa_fast.explain(self.model, self.pictures, mean=MEAN, std=STD, flow=flow, **options)
        self.clock.synchronize()
        assert isinstance(found, Explanation)
        return found

    def warm(self, stride: int, dtype: str) -> Callable[[], None]:
        """AOSA-approx by a warm explainer, host to host; what it tried is printed."""
        options: dict[str, Any] = {"stride": stride, "box": self.network.box, "dtype": dtype}
        explainer = aosa_fast.Explainer(self.model, mean=MEAN, std=STD, **options)
        print("warm: " + str(explainer.warmup(self.pictures)).replace("\n  ", "; "), flush=True)

        def run() -> None:
            explainer(self.pictures)
            self.clock.synchronize()

        return run

    def bare(self, dtype: str) -> None:
        """The least that a gradient explanation costs, on the device from start to end."""
        with precision(dtype, self.clock.device):
            forward_and_backward(self.model, self.video)
        self.clock.synchronize()

    def forwards(self, many: Tensor, size: int, dtype: str) -> None:
        """Logits of all clips, `size` at a time."""
        with precision(dtype, self.clock.device):
            in_batches(forward, self.model, many, size)
        self.clock.synchronize()

    def fits(self, many: Tensor, size: int, dtype: str) -> bool:
        """Whether the device holds a batch of so many."""
        try:
            self.forwards(many[:size], size, dtype)
        except torch.OutOfMemoryError:
            print(f"  {self.network.name}: a batch of {size} does not fit, {dtype}", flush=True)
            return False
        return True
