from __future__ import annotations

import copy
from functools import cache
from itertools import permutations, product
from math import ceil, exp, hypot, pi

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from aosa_fast import Difference, InputError
from aosa_fast.config import Config
from aosa_fast.methods import step as step_module
from aosa_fast.methods import step_mask
from aosa_fast.methods.step import core_energy, step, volume_energy
from aosa_fast.methods.step_mask import SmoothMask, blur_frames, blur_pyramid
from aosa_fast.targets import resolve_target

CPU = torch.device("cpu")


def make_net(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv3d(2, 6, 3, 1, 1), nn.SiLU(), nn.AdaptiveAvgPool3d((2, 3, 2)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(72, classes)).eval()
    net[-1].weight.data *= 40
    return net


def make_video(B: int = 1, T: int = 5, H: int = 17, W: int = 23) -> Tensor:
    """With fewer cells than these, the volume's pull empties the mask at once, and tests would compare zeros."""
    return torch.randn(B, 2, T, H, W, generator=torch.Generator().manual_seed(1))


def run(net, video: Tensor, *targets, steps: int = 12, **options) -> list[Tensor]:
    config = Config(method="step", steps=steps, **options)
    logits, _, maps = step(net, video, config, lambda z: [resolve_target(target, z) for target in targets])
    with torch.no_grad():
        torch.testing.assert_close(logits, net(video.clone()))
    for saliency in maps:
        assert saliency.shape == (len(video), *video.shape[2:])
        assert saliency.dtype == torch.float32
        assert not saliency.requires_grad
        assert 0 <= float(saliency.min()) < float(saliency.max()) - 0.05 <= 0.95
    return maps


def test_several_labels_have_a_probability_each():
    net, video = make_net(), make_video()

    def one_against_nothing(clips: Tensor) -> Tensor:  # whose softmax is the sigmoid
        return torch.nn.functional.pad(net(clips)[:, 2:3], (0, 1))

    (mine,), (other,) = run(net, video, 2, score="sigmoid"), run(one_against_nothing, video, 0)
    torch.testing.assert_close(mine, other)
    assert not torch.allclose(mine, run(net, video, 2)[0])


@cache
def neighbours(H: int, W: int, sigma: int) -> tuple[Tensor, Tensor]:
    """The cell (-1 outside of the grid) and the weight of each neighbour of each pixel; by SmoothMask's docstring."""
    gy, gx, radius = ceil(H / 7), ceil(W / 7), 1 + ceil(sigma / 7)
    cells, weights = [], []
    for y, x in product(range(-sigma, H + sigma), range(-sigma, W + sigma)):
        for i, j in product(range(-radius, radius + 1), repeat=2):
            row, column = round(y / 7) + i, round(x / 7) + j
            cells.append(row * gx + column if 0 <= row < gy and 0 <= column < gx else -1)
            weights.append(exp(-2 * max(hypot(y - 7 * row, x - 7 * column) / sigma - 0.5, 0) ** 2))
    shape = (H + 2 * sigma, W + 2 * sigma, (2 * radius + 1) ** 2)
    return torch.tensor(cells).reshape(shape), torch.tensor(weights, dtype=torch.float64).reshape(shape)


def slow_mask(cells: Tensor, H: int, W: int, sigma: int) -> Tensor:
    """The smooth maximum, pixel by pixel: (T, gy, gx) float64 to (T, H + 2 sigma, W + 2 sigma)."""
    where, weights = neighbours(H, W, sigma)
    v = torch.where(where < 0, 0.0, cells.flatten(1)[:, where.clamp(min=0)]) * weights
    return (v * (20 * v).exp()).sum(3) / (20 * v).exp().sum(3)


@pytest.mark.parametrize(("H", "W", "sigma"), [(10, 16, 11), (7, 1, 11), (1, 113, 23)])
@pytest.mark.parametrize("chunk", [1, 4000, 1 << 19])
def test_masks_equal_the_formula(H, W, sigma, chunk, monkeypatch):
    monkeypatch.setitem(step_mask.CHUNK, "cpu", chunk)
    mask = SmoothMask(H, W, CPU)
    assert mask.shape == (H + 2 * sigma, W + 2 * sigma)
    assert mask.grid == (ceil(H / 7), ceil(W / 7))
    generator = torch.Generator().manual_seed(3)
    cells = torch.rand(2, *mask.grid, generator=generator)
    cells[0, 0, 0] = 0
    cells.requires_grad_()
    padded = mask(cells.expand(3, -1, -1, -1))
    expected = slow_mask(exact := cells.detach().double().requires_grad_(), H, W, sigma)
    torch.testing.assert_close(padded, expected.float().expand_as(padded), rtol=1e-4, atol=1e-6)
    assert torch.equal(mask.crop(padded)[0, :, 0, 0], padded[0, :, sigma, sigma])
    assert mask.crop(padded).shape == (3, 2, H, W)
    weight = torch.randn(padded.shape, generator=generator)
    (grad,) = torch.autograd.grad((padded * weight).sum(), cells)
    (slow,) = torch.autograd.grad((expected * weight.sum(0)).sum(), exact)
    torch.testing.assert_close(grad, slow.float(), rtol=1e-4, atol=1e-4)


def test_full_cells_make_a_full_mask():
    mask = SmoothMask(112, 112, CPU)
    assert (mask.grid, mask.shape) == ((16, 16), (134, 134))
    kept = mask.crop(mask(torch.ones(1, 1, 16, 16)))[0, 0]
    # The last cells are at pixel 105.
    assert 0.95 < float(kept[:106, :106].min()) < float(kept.max()) < 1
    assert float(kept.min()) > 0.85
    # On the cell's own pixel: itself, four cells at 7 pixels, four at 7 root 2, and what is further is next to nothing.
    weights = [1.0] + 4 * [exp(-2 * (7 / 11 - 0.5) ** 2)] + 4 * [exp(-2 * (hypot(7, 7) / 11 - 0.5) ** 2)]
    expected = sum(w * exp(20 * w) for w in weights) / sum(exp(20 * w) for w in weights)
    assert float(kept[56, 56]) == pytest.approx(expected, abs=1e-5)
    assert not mask(torch.zeros(1, 2, 16, 16)).any()


@pytest.mark.parametrize("size", [(31, 46), (5, 3), (1, 2)])
def test_blurs_equal_scipy(size):
    video = torch.randn(2, 1, 2, *size, generator=torch.Generator().manual_seed(0))
    for sigma in (20.0, 3.3):
        expected = gaussian_filter(video.double().numpy(), (0, 0, 0, sigma, sigma), mode="mirror", truncate=4)
        torch.testing.assert_close(blur_frames(video, sigma), torch.from_numpy(expected).float())
    pyramid = blur_pyramid(video)
    assert pyramid.shape == (2, 8, 1, 2, *size)
    assert torch.equal(pyramid[:, 7], video)
    assert torch.equal(pyramid[:, 0], blur_frames(video, 20.0))
    torch.testing.assert_close(pyramid[:, 5], blur_frames(video, 40 / 7))


def sorted_volume(padded: Tensor, area: float) -> Tensor:
    values = padded.flatten().sort().values
    ones = round(area * len(values))
    return (values - torch.cat([torch.zeros(len(values) - ones), torch.ones(ones)])).square().mean()


def test_volume_energy_equals_the_sorted_form():
    padded = torch.rand(3, 2, 15, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    areas = [0.1, 0.45, 0.1]
    energies = volume_energy(padded, areas)
    expected = torch.stack([sorted_volume(row, area) for row, area in zip(padded, areas, strict=True)])
    torch.testing.assert_close(energies, expected)
    pair = [torch.autograd.grad(total.sum(), padded)[0] for total in (energies, expected)]
    torch.testing.assert_close(*pair)


def test_equal_values_share_as_the_mean_over_all_shuffles():
    padded = torch.tensor([0.5, 0.2, 0.5, 0.5, 0.9, 0.2]).reshape(1, 1, 2, 3).requires_grad_()
    (grad,) = torch.autograd.grad(volume_energy(padded, [0.5]).sum(), padded)
    shuffles = []
    for order in map(list, permutations(range(6))):
        leaf = padded.detach().flatten().clone().requires_grad_()
        where = leaf[order].detach().argsort(stable=True)
        loss = (leaf[order][where] - torch.tensor([0.0, 0, 0, 1, 1, 1])).square().mean()
        shuffles.append(torch.autograd.grad(loss, leaf)[0])
    torch.testing.assert_close(grad.flatten(), torch.stack(shuffles).mean(0))


def slow_core(padded: Tensor, area: float, shape: tuple[int, int, int]) -> Tensor:
    """From the docstring of core_energy: (T, S_y, S_x) float64."""
    d, h, w = shape
    inside = [
        (t, y, x)
        for t in range(d)
        for y in range(h)
        for x in range(w)
        if ((t + 0.5) / d - 0.5) ** 2 + ((y + 0.5) / h - 0.5) ** 2 + ((x + 0.5) / w - 0.5) ** 2 <= 0.25
    ]
    T, S_y, S_x = padded.shape
    means = []
    for t in range(T - d + 1):
        for y in range(0, S_y - h + 1, h):
            for x in range(0, S_x - w + 1, w):
                means.append(sum(padded[t + a, y + b, x + c] for a, b, c in inside) / len(inside))
    ordered = torch.stack(means).sort(descending=True).values
    kept = min(ceil(area * padded.numel() / int(d * h * w * pi / 6)), len(ordered))
    energy = (ordered[:kept] - 1).square().mean()
    return energy + ordered[kept:].square().mean() if kept < len(ordered) else energy


@pytest.mark.parametrize(("T", "depth"), [(8, 7), (7, 7), (4, 4), (1, 1)])
def test_core_energy_equals_the_dense_sums(T, depth):
    padded = torch.rand(2, T, 25, 34, generator=torch.Generator().manual_seed(T)).requires_grad_()
    areas = [0.1, 0.9]
    energies = core_energy(padded, areas)
    expected = torch.stack([slow_core(padded[i].double(), areas[i], (depth, 11, 11)) for i in range(2)])
    torch.testing.assert_close(energies, expected.float())
    pair = [torch.autograd.grad(total.sum(), padded)[0].float() for total in (energies, expected)]
    assert pair[1].abs().max() > 1e-4
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-7)


def slow_descent(net: nn.Module, clip: Tensor, start: Tensor, target: int, area: float, steps: int, core: int):
    """Every step of the search in float64, with torch's own SGD."""
    net = copy.deepcopy(net).double()
    T, H, W = clip.shape[1:]
    levels = [gaussian_filter(clip.double().numpy(), (0, 0, s, s), mode="mirror") for s in np.linspace(20, 0, 8)[:-1]]
    levels = torch.from_numpy(np.stack([*levels, clip.double().numpy()]))
    cells = start.double().requires_grad_()
    sgd = torch.optim.SGD([cells], lr=0.05, momentum=0.9, dampening=0.9)
    growth = 300.0
    for t in range(steps):
        padded = slow_mask(cells, H, W, 11)
        mask = padded[:, 11:-11, 11:-11]
        hats = [(1 - (7 * mask - k).abs()).clamp(min=0) for k in range(8)]  # linear interpolation
        logits = net(sum(hat * level for hat, level in zip(hats, levels, strict=True))[None])
        loss = -logits.log_softmax(1)[0, target] + growth * sorted_volume(padded, area)
        if t >= core:
            loss = loss + 300 * slow_core(padded, area, (T, 11, 11))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        cells.data.clamp_(0, 1)
        growth *= 1.0008668
    return cells.detach()


@pytest.mark.parametrize("core", [100, 3], ids=["before the core", "with the core"])
def test_the_descent_equals_a_slow_one(core, monkeypatch):
    assert (step_module.CORE_START, step_module.CORE_WEIGHT) == (100, 300.0)
    monkeypatch.setattr(step_module, "CORE_START", core)
    net, video, steps = make_net(), make_video(T=2, H=10, W=16), 5
    config = Config(method="step", areas=(0.2,))
    search = step_module._Search(net, video, config, [resolve_target(1, net(video))])
    # Random, as equal values would be sorted by their rounding.
    search.cells.copy_(0.3 + 0.6 * torch.rand(search.cells.shape, generator=torch.Generator().manual_seed(5)))
    start = search.cells[0].clone()
    for _ in range(steps):
        search.descend(0, 1)
        search.iteration += 1
    expected = slow_descent(net, video[0], start, 1, 0.2, steps, core)
    assert (expected - start).abs().mean() > 0.02
    torch.testing.assert_close(search.cells[0], expected.float(), rtol=0, atol=1e-5)


class Looks(nn.Module):
    """Class 0 is there while a pattern is to be seen in some frames of one region; nothing else counts."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.pattern = pattern

    def forward(self, video: Tensor) -> Tensor:
        match = (video * self.pattern)[:, :, 3:8, 7:18, 14:27].mean((1, 2, 3, 4))
        return torch.stack([20 * match - 8, torch.zeros_like(match)], 1)


def test_finds_a_planted_region():
    pattern = torch.randn(1, 14, 24, 31, generator=torch.Generator().manual_seed(0))
    (saliency,) = run(Looks(pattern), pattern[None], 0, steps=150, areas=(0.03,))
    planted = saliency[0, 3:8, 7:18, 14:27]
    assert float(planted.mean()) > 0.95
    assert float(saliency[0, [0, 1, 10, 11, 12, 13]].max()) < 0.05
    assert float(saliency[0, 3:8, :, :5].mean()) < 0.2


@pytest.mark.parametrize("area", [0.1, 0.3])
def test_the_volume_ends_near_the_area(area):
    net, video = make_net(), make_video(T=9, H=24, W=31)
    search = step_module._Search(net, video, Config(method="step", areas=(area,)), [resolve_target(0, net(video))])
    for _ in range(60):  # the core, which comes later, draws it to whole ellipsoids
        search.descend(0, 1)
        search.iteration += 1
    assert float(search.mask(search.cells).mean()) == pytest.approx(area, rel=0.15)


def test_a_clip_alone_is_as_in_a_batch():
    net, video = make_net(), make_video(B=3)
    targets = (2, Difference(0, 2), torch.tensor([0, 2, 1]))
    together = run(net, video, *targets, areas=(0.1, 0.4), batch_size=4, steps=10)
    for b in range(3):
        alone = run(net, video[b : b + 1], 2, Difference(0, 2), [0, 2, 1][b], areas=(0.1, 0.4), batch_size=1, steps=10)
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[b], rtol=0, atol=1e-4)
    again = run(net, video, *targets, areas=(0.1, 0.4), batch_size=4, steps=10)
    assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))
    assert not torch.allclose(together[0], together[2], atol=1e-2)  # the target counts


def test_a_difference_is_between_the_two_classes_alone():
    three, two, video = make_net(3), make_net(2), make_video(B=2)
    two.load_state_dict({**three.state_dict(), "4.weight": three[4].weight[[2, 0]], "4.bias": three[4].bias[[2, 0]]})
    (difference,) = run(three, video, Difference(2, 0))
    (among_two,) = run(two, video, 0)
    torch.testing.assert_close(difference, among_two, rtol=0, atol=1e-5)
    (among_three,) = run(three, video, 2)
    assert not torch.allclose(difference, among_three, atol=1e-2)


def test_areas_are_summed_and_blurred():
    net, video, areas = make_net(), make_video(B=2), (0.05, 0.3, 0.5)
    (saliency,) = run(net, video, 0, areas=areas)
    total = sum(run(net, video, 0, areas=(area,))[0] for area in areas)
    blurred = gaussian_filter(total.numpy(), (0, 0, 10, 10), mode="mirror", truncate=4)
    expected = blurred / blurred.max((1, 2, 3), keepdims=True)
    torch.testing.assert_close(saliency, torch.from_numpy(expected), rtol=0, atol=1e-5)
    assert saliency.amax((1, 2, 3)).tolist() == [1, 1]


class InPlace(nn.Module):
    """Normalises its input where it lies."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor) -> Tensor:
        return self.net(video.sub_(0.5).mul_(2.0))


def test_nothing_is_left_behind():
    net, video = InPlace(make_net()), make_video(B=2)
    before, weights = video.clone(), copy.deepcopy(net.state_dict())
    random = torch.random.get_rng_state()
    (saliency,) = run(net, video, 1)
    assert torch.equal(video, before)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(torch.random.get_rng_state(), random)
    (plain,) = run(lambda clips: net.net((clips - 0.5) * 2.0), video, 1)
    torch.testing.assert_close(saliency, plain, rtol=0, atol=1e-5)


def test_autocast_is_for_the_model_alone():
    pattern = torch.randn(1, 5, 17, 23, generator=torch.Generator().manual_seed(0))
    looks = lambda clips: torch.stack([(clips * pattern).mean((1, 2, 3, 4)), clips[:, 0, 0, 0, 0]], 1)  # noqa: E731
    video = make_video()
    (expected,) = run(looks, video, 0, areas=(0.1, 0.4))
    with torch.autocast("cpu", torch.bfloat16):
        (saliency,) = run(looks, video, 0, areas=(0.1, 0.4))
    assert torch.equal(saliency, expected)


def test_refuses_a_model_without_a_gradient():
    net = make_net()
    with pytest.raises(InputError, match="model must be differentiable by its input"):
        run(lambda clips: net(clips.detach()), make_video(), 1)
    with pytest.raises(InputError, match="finite gradient"):
        run(lambda clips: net(clips) + (clips * 0).sqrt().sum((1, 2, 3, 4)).unsqueeze(1), make_video().abs(), 1)
