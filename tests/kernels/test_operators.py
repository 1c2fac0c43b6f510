"""What all operators have in common: the same bits however they are called."""

from __future__ import annotations

import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from aosa_fast import _C
from aosa_fast.kernels import (
    farneback,
    field,
    jit,
    occlude,
    partners,
    partners_numba,
    pictures,
    saliency_map,
    tracking,
    tube_overlaps,
    tube_scores,
)

OPERATORS = {
    "conditional_mean": field._conditional_mean,
    "field": field._field,
    "field_scores": field._field_scores,
    "tube_scores": tube_scores._tube_scores,
    "saliency_map": saliency_map._saliency_map,
    "tube_overlaps": tube_overlaps._tube_overlaps,
    "occlude": occlude._occlude,
    "occlude_sampled": occlude._occlude_sampled,
    "normalize_frames": pictures._normalize_frames,
    "grey_frames": pictures._grey_frames,
    "track_anchors": tracking._track_anchors,
    "rasterize_boxes": tracking._rasterize_boxes,
    "select_partners": partners._select_partners,
    "farneback": farneback._farneback,
}
LEVELS = ["baseline", "avx2", "avx512"]


def make_clip(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return torch.randn(shape, generator=generator) + torch.linspace(-1, 2, shape[-1])


def make_pictures(B: int, T: int, H: int, W: int) -> Tensor:
    return torch.randint(0, 256, (B, T, H, W, 3), generator=torch.Generator().manual_seed(W), dtype=torch.uint8)


def make_tubes(B: int, N: int, T: int, H: int, W: int, K1: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(N)
    frame = torch.tensor([W, H])
    low = (torch.rand(B, N, T, 2, generator=generator) * frame).long()
    boxes = torch.cat([low, torch.minimum(low + 9, frame)], dim=-1)
    boxes[torch.rand(B, N, T, generator=generator) < 0.1] = 0
    return boxes.int(), torch.randint(-1, N, (B, N, K1), generator=generator).int()


def make_frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(shape[-1])).byte()


def make_tracks(B: int, N: int, T: int) -> Tensor:
    return torch.randint(-1, 2, (B, N, T, 2), generator=torch.Generator().manual_seed(N)).float().cumsum(2)


def inputs(size: str) -> dict[str, tuple[Any, ...]]:
    """Arguments by name. The large ones are work for three threads (kStepsPerThread in csrc/parallel.h)."""
    large = size == "large"
    B, C, T, H, W, N = (1, 3, 16, 111, 121, 97) if large else (2, 2, 3, 9, 11, 6)
    video, grad, fill = make_clip(B, C, T, H, W), make_clip(B, C, T, H, W).flip(-1), make_clip(B, C, T, H, W).flip(-2)
    clips, frames = (3, 4) if large else (B, T)
    boxes, members = make_tubes(clips, N, T, H, W, 4)
    scores = torch.linspace(-1, 1, clips * N).reshape(clips, N)
    few, rows = members[0, :6].contiguous(), (torch.arange(6) % B).int()
    part, short = boxes[:B, :, :frames].contiguous(), video[:, :, :frames].contiguous()
    noise = torch.randn(24, frames, 3, 3, generator=torch.Generator().manual_seed(1))
    drawn = torch.full((24, C, frames, H, W), torch.nan)
    return {
        "conditional_mean": (video, 3),
        "field-element": (video, grad, None, 3, 0),
        "field-channel": (video, grad, fill, 3, 1),
        "field-none": (video, grad, torch.arange(C).float(), 3, 2),
        "field-eq8-literal": (video, grad, None, 4, 3),
        "field_scores": (
            make_clip(clips, 2, T, H, W),
            make_clip(clips, 2, T, H, W).mT.reshape(clips, 2, T, H, W),
            None,
            boxes,
            members,
            4,
            0,
        ),
        "tube_scores": (make_clip(clips, T, H, W), boxes, members),
        "saliency_map": (scores, boxes, members, H, W),
        "tube_overlaps": (make_clip(1, 2, 16, 17), *make_tubes(1, 800 if large else 6, 2, 64, 68, 8), 4),
        "occlude": (video, fill, boxes[:B], few, rows, torch.full((6, C, T, H, W), torch.nan)),
        "occlude_sampled": (short, short * 0.5, part, few.repeat(4, 1), rows.repeat(4), noise, drawn),
        "normalize_frames": (make_pictures(B, T, H, W), torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])),
        "grey_frames": (make_pictures(B, T, H, W),),
        "track_anchors": (make_clip(B, T - 1, H, W, 2), 4, 2),
        "rasterize_boxes": (make_tracks(B, N, T).clamp(min=0), make_tracks(B, N, T)[..., 0] >= 0, 5, 4, H, W),
        "select_partners": (make_tracks(B, 2 * N, T), 3, 1.5),
        "farneback": (make_frames(2, 5, 66, 67) if large else make_frames(B, T, H, W), 0.5, 3, 15, 3, 5, 1.2),
    }


SMALL, LARGE = inputs("small"), inputs("large")
NAMES = list(SMALL)


def call(name: str, arguments: tuple[Any, ...]) -> list[np.ndarray]:
    """The outputs as bytes, so that NaN equals itself; an argument that is written is copied, and is an output."""
    if name.startswith("occlude"):
        arguments = (*arguments[:-1], torch.from_numpy(arguments[-1].numpy().copy()))
    result = OPERATORS[name.split("-")[0]](*arguments)
    outputs = arguments[-1:] if name.startswith("occlude") else result if isinstance(result, tuple) else (result,)
    return [output.numpy().view(np.uint8) for output in outputs]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=[-1, math.inf], ids=["numba", "numpy"])
def eager_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partners use threads from a few rows on, not from 500 anchors on."""
    monkeypatch.setattr(partners_numba, "WORK_PER_THREAD", 1000)
    jit.preload().join()
    monkeypatch.setattr(jit, "PATIENCE", request.param)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_run_gives_the_same_bits(name: str) -> None:
    first = call(name, LARGE[name])
    assert first[0].any()
    assert same(first, call(name, LARGE[name]))


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_does_not_change_a_bit(name: str, threads: Callable[[int], None]) -> None:
    threads(1)
    expected = call(name, LARGE[name])
    for count in (2, 3, 5):
        threads(count)
        assert same(expected, call(name, LARGE[name]))


@pytest.mark.parametrize("name", NAMES)
def test_the_instruction_set_does_not_change_a_bit(name: str) -> None:
    best, results = _C.simd_level(), []
    try:
        for level in LEVELS[: LEVELS.index(best) + 1]:
            _C.set_simd_level(level)
            assert _C.simd_level() == level
            results.append(call(name, LARGE[name]) + call(name, SMALL[name]))
    finally:
        _C.set_simd_level(best)
    assert all(same(results[0], other) for other in results)


def test_an_unknown_instruction_set_is_refused() -> None:
    before = _C.simd_level()
    with pytest.raises(ValueError, match=r"level must be one that this processor has, up to .*; got sse9"):
        _C.set_simd_level("sse9")
    assert _C.simd_level() == before


@pytest.mark.parametrize("name", NAMES)
def test_inputs_may_have_any_strides(name: str) -> None:
    arguments = SMALL[name]
    strided = [torch.stack([a, a + 1], dim=-1)[..., 0] if isinstance(a, Tensor) else a for a in arguments]
    turned = [a.transpose(0, -1).contiguous().transpose(0, -1) if isinstance(a, Tensor) else a for a in arguments]
    for variant in (strided, turned):
        assert not variant[0].is_contiguous()
        if name.startswith("occlude"):
            variant[-1] = arguments[-1]
        assert same(call(name, tuple(variant)), call(name, arguments))


@pytest.mark.parametrize("name", NAMES)
def test_every_element_of_an_output_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, plain, made = call(name, SMALL[name]), torch.empty, []

    def poisoned(*arguments: Any, **options: Any) -> Tensor:
        made.append(plain(*arguments, **options))
        return made[-1].fill_(torch.nan if made[-1].is_floating_point() else made[-1].dtype == torch.bool or -7)

    monkeypatch.setattr(torch, "empty", poisoned)
    result = call(name, SMALL[name])
    monkeypatch.undo()
    assert made or name.startswith("occlude")  # whose output is made, full of NaN, by the caller
    assert same(result, expected)
    assert not any(np.isnan(tensor.numpy()).any() for tensor in made)


def far(tensor: Tensor, value: int) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[1] = value
    return changed


VIDEO, GRAD, FEW = SMALL["field-element"][0], SMALL["field-element"][1], SMALL["occlude"][3]
# Name, place of an argument, and what it must not be.
REFUSED: list[tuple[str, int, Any]] = [
    ("conditional_mean", 1, -1),
    ("conditional_mean", 1, 2**62),
    ("conditional_mean", 0, VIDEO.double()),
    ("field-element", 1, GRAD[..., :-1]),
    ("field-element", 3, -4),
    ("field-element", 4, 4),
    ("field-none", 2, torch.zeros(7)),
    ("field_scores", 4, far(SMALL["field_scores"][4], 6)),
    ("field_scores", 5, -1),
    ("tube_scores", 1, far(SMALL["tube_scores"][1], -1)),
    ("tube_scores", 1, SMALL["tube_scores"][1][:, :-1]),
    ("tube_scores", 2, far(SMALL["tube_scores"][2], -2)),
    ("saliency_map", 0, SMALL["saliency_map"][0][:, :-1]),
    ("field-element", 4, 4),
    ("saliency_map", 3, -9),
    ("saliency_map", 4, 10),  # less than the boxes have
    ("tube_overlaps", 1, SMALL["tube_overlaps"][1][:, :, :1]),
    ("tube_overlaps", 2, far(SMALL["tube_overlaps"][2], 6)),
    ("tube_overlaps", 3, 0),
    ("occlude", 1, VIDEO.int()),
    ("occlude", 4, far(SMALL["occlude"][4], 2)),
    ("occlude", 5, torch.zeros(6, *VIDEO.shape[1:])[:5]),
    ("occlude", 5, torch.zeros(*VIDEO.shape[:0:-1], 6).permute(5 - 1, 3, 2, 1, 0)),  # neither memory format
    ("occlude_sampled", 5, SMALL["occlude_sampled"][5][..., :2]),
    ("normalize_frames", 1, torch.zeros(2)),
    ("grey_frames", 0, SMALL["grey_frames"][0][..., :2]),
    ("track_anchors", 0, SMALL["track_anchors"][0][..., :1]),
    ("track_anchors", 1, 0),
    ("track_anchors", 2, -1),
    ("rasterize_boxes", 1, SMALL["rasterize_boxes"][1][:, :-1]),
    ("rasterize_boxes", 2, -5),
    ("rasterize_boxes", 4, -9),
    ("rasterize_boxes", 5, 2**31),
    ("select_partners", 0, SMALL["select_partners"][0][..., :1]),
    ("select_partners", 0, SMALL["select_partners"][0][:, :, :0]),
    ("select_partners", 1, -1),
    ("farneback", 3, 2**31),
    ("farneback", 6, 0.0),
]


@pytest.mark.parametrize(("name", "place", "value"), REFUSED, ids=[f"{name} {place}" for name, place, _ in REFUSED])
def test_registered_operators_refuse_what_their_functions_refuse(name: str, place: int, value: Any) -> None:
    arguments = [*SMALL[name][:place], value, *SMALL[name][place + 1 :]]
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(torch.ops.aosa_fast, name.split("-")[0])(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda a: _C.conditional_mean(a, a.copy(), -4, 1), "radius must be at least 0"),
        (lambda a: _C.field(a, a, None, a[:, 0].copy(), -4, 0, 1), "radius must be at least 0"),
        (lambda a: _C.field(a, a, None, a[:, 0].copy(), 4, 9, 1), "relu must be from 0 to 3"),
        (lambda a: _C.field(a, a, None, a[:, 0].T.copy(), 4, 0, 1), "out must be"),
    ],
)
def test_the_extension_refuses_what_would_leave_its_memory(call: Callable[[Any], None], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        call(VIDEO.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_torch_accepts_the_operator(name: str) -> None:
    torch.library.opcheck(OPERATORS[name.split("-")[0]], SMALL[name])


@pytest.mark.parametrize("reseed", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("shape", [(2, 5, 9, 11, 2), (1, 0, 9, 11, 2), (1, 6, 8, 8, 2)], ids=str)
def test_fake_tracks_have_the_shape_of_the_real(shape: tuple[int, ...], reseed: int) -> None:
    real = OPERATORS["track_anchors"](torch.zeros(shape), 4, reseed)
    with FakeTensorMode():
        fake = OPERATORS["track_anchors"](torch.empty(shape), 4, reseed)
    assert [(t.shape, t.dtype) for t in real] == [(t.shape, t.dtype) for t in fake]


@pytest.mark.usefixtures("eager_threads")
def test_python_threads_may_call_at_once(threads: Callable[[int], None]) -> None:
    threads(2)
    expected = {name: call(name, LARGE[name]) for name in NAMES}
    with ThreadPoolExecutor(4) as pool:
        jobs = [(name, pool.submit(call, name, LARGE[name])) for _ in range(3) for name in NAMES]
        for name, job in jobs:
            assert same(job.result(timeout=60), expected[name]), name


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_may_call_what_the_parent_used(threads: Callable[[int], None]) -> None:
    threads(3)
    expected = {name: call(name, LARGE[name]) for name in NAMES}
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def child() -> None:
        writer.send([name for name in NAMES if not same(call(name, LARGE[name]), expected[name])])

    process = context.Process(target=child)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns about any fork beside threads
        process.start()
    try:
        assert reader.poll(30), "the child hangs or died"
        assert reader.recv() == []
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
