from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import InputError, explain
from aosa_fast.kernels.reference import tube_masks

# Worst error measured: 1.3e-6 of the largest value.
RELATIVE = 1e-5


class AuthorsNet(nn.Module):
    """The small network of the golden file, with its weights."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(3, 8, (3, 7, 7), (1, 4, 4), (1, 3, 3)), nn.ReLU(), nn.Conv3d(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(16, 10)
        weights = [value for name, value in arrays.items() if name.startswith("net_")]
        by_shape = {tuple(value.shape): value for value in weights}
        assert len(by_shape) == len(weights)
        for parameter in self.parameters():
            parameter.data = by_shape.pop(tuple(parameter.shape))

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(video).mean((2, 3, 4))) * 8
        return logits


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> SimpleNamespace:
    path = shared_data.parent / "golden" / "authors2022_cliffdiving.npz"
    if not path.is_file():
        pytest.skip("needs the outputs of the authors' code")
    arrays = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    return SimpleNamespace(**arrays, net=AuthorsNet(arrays).eval())


@pytest.fixture(scope="module")
def run(golden: SimpleNamespace) -> Callable[..., object]:
    return lambda **options: explain(
        golden.net,
        golden.video[None],
        int(golden.target),
        compat="authors2022",
        mean=golden.mean,
        std=golden.std,
        batch_size=16,
        **options,
    )


def assert_near(actual: Tensor, expected: Tensor, rounding: float = 0.0) -> None:
    limit = float(expected.abs().max())
    assert limit > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=RELATIVE * limit + rounding)


@pytest.mark.parametrize("partners", [0, 3])
def test_tracks_and_tubes_are_the_authors_bit_for_bit(golden, run, partners):
    result = run(method="aosa-approx", partners=partners, fill="mean")
    alive = result.alive[0]
    assert 0.5 < alive.float().mean() < 1
    assert torch.equal(result.tracks[0][alive], golden.tracks_xy[alive])
    assert (golden.tracks_xy[~alive] == 0).all()
    bits = golden.occluded_bits_k1 if partners == 0 else golden.occluded_bits_k3
    expected = np.unpackbits(bits.numpy(), axis=1).reshape(196, 16, 112, 112).astype(bool)
    np.testing.assert_array_equal(tube_masks(result.boxes, result.members, 112, 112)[0].numpy(), expected)
    np.testing.assert_array_equal(result.coverage[0].numpy(), expected.sum(0))


def test_flow_is_the_authors(golden, run):
    from aosa_fast.methods.flow import optical_flow

    frames = run(fill="mean").frames
    # Their bits up to OpenCV 5.0. 5.1 rounds otherwise: 1e-8 px in the median, 0.006 where they have 124 px.
    difference = (optical_flow(frames, "farneback-opencv", swapped_grey=True)[0] - golden.flow).abs()
    assert difference.max() < 0.05
    assert difference.median() < 1e-6
    assert (optical_flow(frames, "farneback-opencv")[0] - golden.flow).abs().median() > 0.01


@pytest.mark.parametrize("partners", [0, 3])
def test_exact_scores_and_maps_are_the_authors(golden, run, partners):
    result = run(method="aosa", partners=partners)
    suffix = "_k1" if partners == 0 else "_k3"
    expected = getattr(golden, "exact_scores" + suffix)
    torch.testing.assert_close(result.class_scores[0, :, int(golden.target)], expected, rtol=RELATIVE, atol=0)
    clean = golden.prob[int(golden.target)]
    # Small differences of float32 probabilities, whose last bits depend on the processor's way to convolve.
    rounding = 2 * torch.finfo(torch.float32).eps * float(clean)
    assert_near(result.scores[0], clean - expected, rounding)
    assert_near(result.saliency[0], getattr(golden, "exact_map" + suffix))
    torch.testing.assert_close(result.clean_scores[0], golden.prob, rtol=RELATIVE, atol=1e-7)


@pytest.mark.parametrize("partners", [0, 3])
@pytest.mark.parametrize(("fill", "name"), [("mean", "zero"), ("conditional", "cond")])
def test_first_order_scores_and_maps_are_the_authors(golden, run, partners, fill, name):
    result = run(method="aosa-approx", partners=partners, fill=fill)
    suffix = f"{name}_k1" if partners == 0 else f"{name}_k3"
    clean = golden.prob[int(golden.target)]
    expected = getattr(golden, "approx_scores_" + suffix)
    torch.testing.assert_close(clean - result.scores[0], expected, rtol=RELATIVE, atol=0)
    assert_near(result.scores[0], clean - expected)
    assert_near(result.saliency[0], getattr(golden, "approx_map_" + suffix))


def test_the_fixed_method_differs_from_the_authors(golden):
    result = explain(golden.net, golden.video[None], int(golden.target), fill="mean", mean=golden.mean, std=golden.std)
    both = result.alive[0] & (golden.tracks_xy != 0).any(-1)
    assert not torch.equal(result.tracks[0][both], golden.tracks_xy[both])
    assert not torch.equal(result.tracks, result.tracks.round())


def test_compat_needs_the_authors_pictures(golden):
    with pytest.raises(InputError, match=r"^compat=authors2022 must come with frames, or with mean and std"):
        explain(golden.net, golden.video[None], compat="authors2022")


@pytest.mark.parametrize("method", ["aosa", "aosa-approx"])
@pytest.mark.parametrize("case", ["a tube hides everything", "NaN flow"])
def test_compat_maps_are_finite(case, method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(24, 4))
    flow = torch.full((1, 3, 24, 32, 2), torch.nan if case == "NaN flow" else 0.0)
    frames = np.zeros((1, 4, 24, 32, 3), dtype=np.uint8)
    box = 16 if case == "NaN flow" else 200
    options = {"compat": "authors2022", "flow": flow, "frames": frames, "box": box, "method": method}
    assert torch.isfinite(explain(net, torch.randn(1, 3, 4, 24, 32), 0, **options).saliency).all()
