from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.field import RELU_MODES, Relu, conditional_mean, field
from field_cases import CASES, clip, fills


@pytest.mark.parametrize(("shape", "radius"), CASES)
def test_conditional_mean_matches_the_reference(shape: tuple[int, ...], radius: int) -> None:
    video, _ = clip(shape)
    expected = reference.conditional_mean(video, radius)
    assert expected.abs().max() > 0.1
    assert radius == 0 or shape[-2:] == (1, 1) or (expected - video).abs().max() > 0.1
    # Worst measured: 2.4e-7, the rounding of the result to float32.
    torch.testing.assert_close(conditional_mean(video, radius).double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("relu", RELU_MODES)
@pytest.mark.parametrize("kind", ["conditional", "voxel", "channel"])
@pytest.mark.parametrize(("shape", "radius"), CASES)
def test_field_matches_the_reference(shape: tuple[int, ...], radius: int, kind: str, relu: Relu) -> None:
    video, grad = clip(shape)
    fill = fills(video)[kind]
    result = field(video, grad, fill, radius=radius, relu=relu)
    expected = reference.field(video, grad, fill, radius=radius, relu=relu)
    if kind == "conditional" and (radius == 0 or shape[-2:] == (1, 1)):
        assert not expected.any()  # no neighbours: nothing is replaced
        assert not result.any()
    else:
        assert expected.abs().max() > 0.01
    # Worst measured: 2.7e-6, products and channel sums in float32.
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-5)


def test_conditional_mean_by_hand() -> None:
    video = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).reshape(1, 1, 1, 2, 2)
    expected = torch.tensor([[11 / 3, 10 / 3], [3.0, 2.0]])
    torch.testing.assert_close(conditional_mean(video, 1)[0, 0, 0], expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 6])
def test_an_impulse_spreads_over_its_square_and_not_on_itself(radius: int) -> None:
    video = torch.zeros(1, 1, 2, 31, 33)
    video[0, 0, 0, 15, 16] = 1.0
    expected = torch.zeros_like(video)
    expected[0, 0, 0, 15 - radius : 16 + radius, 16 - radius : 17 + radius] = 1 / ((2 * radius + 1) ** 2 - 1)
    expected[0, 0, 0, 15, 16] = 0.0
    torch.testing.assert_close(conditional_mean(video, radius), expected, rtol=1e-7, atol=0)


def test_field_by_hand() -> None:
    # Drops J (x - fill) per channel: 2 (3 - 1) = 4 and -1 (5 - 2) = -3 left, 1 (0 - 1) = -1 and -4 (1 - 2) = 4 right.
    video = torch.tensor([[3.0, 0.0], [5.0, 1.0]]).reshape(1, 2, 1, 1, 2)
    grad = torch.tensor([[2.0, 1.0], [-1.0, -4.0]]).reshape(1, 2, 1, 1, 2)
    fill = torch.tensor([1.0, 2.0])
    expected = {"element": [4.0, 4.0], "channel": [1.0, 3.0], "none": [1.0, 3.0], "eq8-literal": [-3.0, -1.0]}
    for relu in RELU_MODES:
        assert field(video, grad, fill, relu=relu).flatten().tolist() == expected[relu]
    assert field(video, -grad, fill, relu="channel").flatten().tolist() == [0.0, 0.0]
    assert field(video, grad, fill).flatten().tolist() == expected["element"]
    # The conditional mean of two pixels is the other one: 2 (3 - 0) = 6 and -1 (5 - 1) = -4; 1 (0 - 3) and -4 (1 - 5).
    assert field(video, grad, radius=1, relu="element").flatten().tolist() == [6.0, 16.0]
    assert field(video, grad, radius=1, relu="none").flatten().tolist() == [2.0, 13.0]


def test_the_default_radius_is_4() -> None:
    video, grad = clip((1, 2, 1, 21, 21))
    assert torch.equal(conditional_mean(video), conditional_mean(video, 4))
    assert torch.equal(field(video, grad), field(video, grad, conditional_mean(video, 4)))
    assert not torch.equal(field(video, grad), field(video, grad, radius=3))


@pytest.mark.parametrize("shape", [(1, 1, 4, 19, 21), (2, 3, 3, 7, 70)], ids=["one-channel", "channels"])
def test_without_relu_the_field_is_linear(shape: tuple[int, ...]) -> None:
    video, grad = clip(shape)
    for fill in (torch.full((shape[1],), 0.3), video.flip(-2)):
        values = fill.reshape(-1, 1, 1, 1) if fill.ndim == 1 else fill
        e = field(video, grad, fill, relu="none")
        torch.testing.assert_close(e, -(grad * (values - video)).sum(1), rtol=0, atol=1e-5)
        assert torch.equal(field(video, -grad, fill, relu="none"), -e)
        assert torch.equal(field(video, 2 * grad, fill, relu="none"), 2 * e)


@pytest.mark.parametrize("kind", ["conditional", "voxel", "channel"])
def test_order_of_the_variants(kind: str) -> None:
    video, grad = clip((1, 3, 4, 19, 21))
    e = {relu: field(video, grad, fills(video)[kind], relu=relu) for relu in RELU_MODES}
    assert (e["element"] >= e["channel"]).all()
    assert (e["channel"] >= e["none"]).all()
    assert (e["channel"] >= 0).all()
    assert (e["eq8-literal"] <= 0).all()
    assert (e["none"] < 0).any()
    torch.testing.assert_close(e["element"] + e["eq8-literal"], e["none"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.1, -2.1179039, 1e-30, 1e30])
@pytest.mark.parametrize("radius", [1, 3, 4, 40])
def test_a_constant_clip_has_no_relevance_at_all(value: float, radius: int) -> None:
    video = torch.full((1, 2, 2, 37, 41), value)
    grad = torch.randn(video.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(conditional_mean(video, radius), video)
    for relu in RELU_MODES:
        assert not field(video, grad, radius=radius, relu=relu).any()


def test_frames_channels_and_clips_do_not_mix() -> None:
    video, grad = clip((2, 3, 3, 17, 23))
    changed = video.clone()
    changed[1, 2, 1, 5, 6] += 10.0
    where = (conditional_mean(changed) != conditional_mean(video)).nonzero()
    assert where[:, :3].unique(dim=0).tolist() == [[1, 2, 1]]
    moved = (field(changed, grad) != field(video, grad)).nonzero()
    assert moved[:, :2].unique(dim=0).tolist() == [[1, 1]]


@pytest.mark.parametrize("relu", RELU_MODES)
def test_nan_stays_in_its_voxel_with_a_given_fill(relu: Relu) -> None:
    video, grad = clip((1, 3, 2, 9, 40))
    grad[0, 1, 1, 4, 5] = torch.nan
    result = field(video, grad, torch.zeros(3), relu=relu)
    assert result.isnan().nonzero().tolist() == [[0, 1, 4, 5]]


X = torch.zeros(1, 3, 2, 5, 6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X[0], X), ValueError, "video must have shape (B, C, T, H, W); got (3, 2, 5, 6)"),
        ((X, X[..., :5]), ValueError, "grad must have shape (B, C, T, H, W) with B=1, C=3, T=2, H=5, W=6; got"),
        ((X, X, torch.zeros(2)), ValueError, "fill must have shape (C) with C=3; got (2,)"),
        ((X, X, torch.zeros(3, 1, 1, 1)), ValueError, "fill must have shape (B, C, T, H, W); got (3, 1, 1, 1)"),
        ((X, X, X[:, :, :1]), ValueError, "fill must have shape (B, C, T, H, W) with B=1, C=3, T=2, H=5, W=6; got"),
        ((X.double(), X), TypeError, "video must be torch.float32; got torch.float64"),
        ((X, X.half()), TypeError, "grad must be torch.float32; got torch.float16"),
        ((X, X, X.double()), TypeError, "fill must be torch.float32; got torch.float64"),
        ((X, X, 0.0), TypeError, "fill must be a torch.Tensor; got float"),
        ((X.numpy(), X), TypeError, "video must be a torch.Tensor; got ndarray"),
        ((X, X.to("meta")), ValueError, "arguments must be on one device; got {'video': 'cpu', 'grad': 'meta'}"),
    ],
)
def test_field_refuses(arguments: tuple[Tensor, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        field(*arguments)


def test_refuses_options_and_clips_of_the_mean() -> None:
    with pytest.raises(ValueError, match=r"relu must be one of element, channel, none, eq8-literal; got 'eq8'"):
        field(X, X, relu="eq8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius must be at least 0; got -1"):
        field(X, X, radius=-1)
    with pytest.raises(ValueError, match=re.escape("video must have shape (B, C, T, H, W); got (3, 2, 5, 6)")):
        conditional_mean(X[0])
    with pytest.raises(TypeError, match=r"video must be torch\.float32; got torch\.int32"):
        conditional_mean(X.int())
    with pytest.raises(ValueError, match="radius must be at least 0; got -2"):
        conditional_mean(X, -2)
    with pytest.raises(ValueError, match="relu must be an index of element, channel, none, eq8-literal; got 4"):
        torch.ops.aosa_fast.field(X, X, None, 4, 4)
