"""The Triton twins of the field and of the conditional mean, in the interpreter."""

from __future__ import annotations

import pytest
import torch

from field_cases import CASES, clip, fills
from tube_cases import make_boxes, make_members

pytest.importorskip("triton")

from aosa_fast.kernels import field_triton, reference
from aosa_fast.kernels.field import RELU_MODES, Relu

SHAPES = {
    "paper": (1, 3, 16, 112, 112),
    "slowfast": (2, 3, 32, 256, 256),
    "odd": (1, 1, 2, 37, 53),
    "wide": (1, 3, 1, 20, 1920),
    "one": (1, 1, 1, 1, 1),  # Triton compiles an argument that is 1 as a constant
}


def launch(shape: tuple[int, ...], kind: str, relu: int, radius: int) -> object:
    B, C, T, *_ = shape
    video = torch.zeros(shape)
    fill = {"conditional": None, "voxel": video, "channel": torch.zeros(C)}[kind]
    boxes, members = torch.zeros(B, 9, T, 4, dtype=torch.int32), torch.zeros(B, 9, 4, dtype=torch.int32)
    return field_triton.field_scores(video, video, fill, boxes, members, radius, relu)


# What test_compile.py compiles. The unrolled window of radius 4 takes up to 36 s: the two sizes that need the most
# registers have it, the others have radius 1.
RADII = {"paper": 4, "slowfast": 4}
LAUNCHES = (
    {name: lambda n=name: launch(SHAPES[n], "conditional", 0, RADII.get(n, 1)) for name in SHAPES}
    | {f"relu-{relu}": lambda r=relu: launch(SHAPES["paper"], "conditional", r, 1) for relu in range(4)}
    | {kind: lambda k=kind: launch(SHAPES["slowfast"], k, 2, 1) for kind in ("voxel", "channel")}
    | {f"radius-{radius}": lambda r=radius: launch(SHAPES["paper"], "conditional", 0, r) for radius in (0, 9, 200)}
    | {"mean": lambda: field_triton.conditional_mean(torch.zeros(SHAPES["paper"]), 4)}
    | {"alone": lambda: field_triton.field(torch.zeros(1, 3, 2, 112, 112), torch.zeros(1, 3, 2, 112, 112), None, 1, 0)}
)

# The interpreter takes a millisecond for every load of every strip, so the cases of the CPU are cut to a frame of each
# of two channels; the variants have several.
SHORT = [
    pytest.param((case.values[0][0], min(case.values[0][1], 2), 1, *case.values[0][3:]), case.values[1], id=case.id)
    for case in CASES
]
VARIANTS = [
    pytest.param((2, 3, 2, 13, 11), 1, id="radius-1"),
    pytest.param((1, 2, 2, 1, 2), 3, id="two-pixels"),
]


@pytest.mark.parametrize(("shape", "radius"), SHORT)
def test_conditional_mean_matches_the_reference(shape: tuple[int, ...], radius: int) -> None:
    video, _ = clip(shape)
    expected = reference.conditional_mean(video, radius)
    assert expected.abs().max() > 0.1
    # Worst measured: 5.5e-7.
    torch.testing.assert_close(field_triton.conditional_mean(video, radius).double(), expected, rtol=0, atol=4e-6)


def check(shape: tuple[int, ...], radius: int, kind: str, relu: Relu) -> None:
    (B, _, T, H, W), N = shape, 5
    video, grad = clip(shape)
    fill = fills(video)[kind]
    boxes, members = make_boxes(B, N, T, H, W), make_members(B, N, 3)
    result, scores = field_triton.field_scores(video, grad, fill, boxes, members, radius, RELU_MODES.index(relu))
    expected, integrals = reference.field_scores(video, grad, boxes, members, fill, radius=radius, relu=relu)
    if radius and shape[-2:] != (1, 1):
        assert expected.abs().max() > 0.01
    # Worst measured: 1.6e-6, and 2e-7 of the field's sum over a frame.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)
    atol = 2e-6 * float(expected.abs().sum((2, 3)).max()) + 1e-5
    torch.testing.assert_close(scores.double(), integrals, rtol=0, atol=atol)


@pytest.mark.parametrize(("shape", "radius"), SHORT)
def test_field_and_scores_match_the_reference(shape: tuple[int, ...], radius: int) -> None:
    check(shape, radius, "conditional", "element")


@pytest.mark.parametrize("relu", RELU_MODES)
@pytest.mark.parametrize("kind", ["conditional", "voxel", "channel"])
@pytest.mark.parametrize(("shape", "radius"), VARIANTS)
def test_every_variant_matches_the_reference(shape: tuple[int, ...], radius: int, kind: str, relu: Relu) -> None:
    check(shape, radius, kind, relu)


def test_the_field_is_the_same_with_and_without_scores_and_from_run_to_run() -> None:
    (video, grad), shape = clip((2, 2, 2, 19, 21)), (2, 4, 2, 19, 21)
    boxes, members = make_boxes(*shape), make_members(2, 4, 3)
    first, again = (field_triton.field_scores(video, grad, None, boxes, members, 1, 0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(field_triton.field(video, grad, None, 1, 0), first[0])
    for b in range(2):
        one = (t[b : b + 1] for t in (video, grad))
        alone = field_triton.field_scores(*one, None, boxes[b : b + 1], members[b : b + 1], 1, 0)
        assert all(torch.equal(a[0], whole[b]) for a, whole in zip(alone, first, strict=True))


def test_inputs_may_have_any_strides() -> None:
    video, grad = clip((1, 2, 2, 12, 20))
    boxes, members = make_boxes(1, 4, 2, 12, 20), make_members(1, 4, 3)
    expected = field_triton.field_scores(video, grad, grad, boxes, members, 1, 0)
    turned = [t.transpose(1, -1).contiguous().transpose(1, -1) for t in (video, grad, grad, boxes, members)]
    assert not turned[0].is_contiguous()
    result = field_triton.field_scores(*turned, 1, 0)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))


def test_nothing_to_do() -> None:
    empty = torch.empty(0, 3, 2, 8, 8)
    boxes, members = torch.zeros(0, 4, 2, 4, dtype=torch.int32), torch.zeros(0, 4, 1, dtype=torch.int32)
    result, scores = field_triton.field_scores(empty, empty, None, boxes, members, 4, 0)
    assert (result.shape, scores.shape) == ((0, 2, 8, 8), (0, 4))
    assert field_triton.conditional_mean(empty, 4).shape == empty.shape
