"""What the parts on a GPU are given: the clock, the sizes, the networks, and the operators."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.bench.gpu.clock import Clock, Rehearsal
from aosa_fast.bench.gpu.functions import Functions, interpreted, public
from aosa_fast.bench.gpu.networks import FULL as NETWORKS
from aosa_fast.bench.gpu.networks import REHEARSAL as TINY_NETWORKS
from aosa_fast.bench.gpu.networks import Setup
from aosa_fast.bench.gpu.plan import FULL, QUICK, REHEARSAL, Plan


@dataclass(frozen=True)
class Bench:
    """A device, and what is done on it."""

    clock: Clock
    plan: Plan
    setup: Setup
    functions: Functions


def on_device(quick: bool) -> Bench:
    """A CUDA device, with the package's operators."""
    return Bench(Clock(), QUICK if quick else FULL, NETWORKS.quick() if quick else NETWORKS, public())


def rehearsal() -> Bench:
    """The CPU in its place, tiny, with the operators' twins in Triton's interpreter: no figure means anything.

    TRITON_INTERPRET must have been set before Triton was imported.
    """
    return Bench(Rehearsal(), REHEARSAL, TINY_NETWORKS, interpreted())
