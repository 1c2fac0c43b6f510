"""Every operator on the device against the float64 reference and the CPU operator; no figure without this."""

from __future__ import annotations

import traceback

import torch
from torch import Tensor, nn

import aosa_fast
from aosa_fast.bench.check import MismatchError, close, equal
from aosa_fast.bench.gpu.bench import Bench
from aosa_fast.bench.gpu.cases import Case, cases
from aosa_fast.bench.gpu.clock import Clock
from aosa_fast.bench.gpu.functions import Functions, public, results
from aosa_fast.bench.inputs import MEAN, STD, moving_frames, smooth_flow
from aosa_fast.kernels import reference

# Operators whose floats have the CPU's bits; integers and truth values are equal everywhere.
BITS = ("track_anchors", "rasterize_boxes", "select_partners", "occlude", "normalize_frames", "grey_frames")
EXPLAINED = 1e-2  # of the largest value, where a network's own rounding decides which of its units are on


def check(bench: Bench) -> list[str]:
    """What is wrong: all of it, so that one run shows everything that is to be mended."""
    print("\nChecks against the float64 reference and the CPU operators", flush=True)
    failures: list[str] = []
    clock = bench.clock
    for case in cases(bench.plan):
        try:
            check_case(bench.functions, case, clock)
        except MismatchError as error:
            failures.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever breaks in an operator is its failure
            traceback.print_exc()
            failures.append(f"{case.name}: {type(error).__name__}: {_first_line(error)}")
            try:
                clock.synchronize()
            except RuntimeError:
                return [*failures, "the device is out of order after that; the rest was not checked"]
    try:
        check_explain(clock)
    except MismatchError as error:
        failures.append(str(error))
    except Exception as error:  # noqa: BLE001 - as above
        traceback.print_exc()
        failures.append(f"explain: {type(error).__name__}: {_first_line(error)}")
    return failures


def check_case(functions: Functions, case: Case, clock: Clock) -> None:
    """Raises MismatchError where two runs, the CPU operator, or the reference say otherwise."""
    function, given = functions[case.operator], case.on(clock.device)
    first, second = (tuple(t.cpu() for t in results(function, given, case.options)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if not torch.equal(_bytes(one), _bytes(other)):
            raise MismatchError(f"{case.name}: two runs must have the same bits")
    expected = results(public()[case.operator], case.arguments, case.options)
    _compare(f"{case.name}: CPU", first, expected, case.tolerance, bits=case.operator in BITS)
    if case.plain and hasattr(reference, case.operator):
        expected = results(getattr(reference, case.operator), case.arguments, case.options)
        _compare(f"{case.name}: reference", first, expected, case.tolerance, bits=False)


def check_explain(clock: Clock) -> None:
    """A whole explanation, pictures in and map out, against the CPU's on the same flow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()).eval()
    pictures, flow = torch.from_numpy(moving_frames(8, 64)), smooth_flow(8, 64)
    for method in ("aosa-approx", "aosa"):
        expected, found = (
            aosa_fast.explain(
                model.to(device), pictures, 1, method=method, flow=flow, mean=MEAN, std=STD, stride=8, dtype="float32"
            )
            for device in (torch.device("cpu"), clock.device)
        )
        for name in ("tracks", "alive", "boxes", "members", "coverage"):
            equal(f"explain, {method}: {name}", getattr(found, name), getattr(expected, name))
        for name in ("scores", "saliency"):
            close(f"explain, {method}: {name}", getattr(found, name), getattr(expected, name), EXPLAINED)


def _compare(name: str, got: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float, *, bits: bool) -> None:
    for i, (one, other) in enumerate(zip(got, expected, strict=True)):
        label = f"{name} [{i}]" if len(got) > 1 else name
        if bits or not one.is_floating_point():
            equal(label, one, other)
        else:
            close(label, one, other, tolerance)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
