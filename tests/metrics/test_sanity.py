from __future__ import annotations

import copy
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from aosa_fast import Difference, InputError
from aosa_fast.errors import ModelWarning
from aosa_fast.metrics import default_stages, sanity_check, spearman, ssim
from aosa_fast.metrics.similarity import average_ranks


def make_net() -> nn.Sequential:
    """As after training: no constant is what `reset_parameters` would set."""
    torch.manual_seed(0)
    body = [nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.SiLU(), nn.Conv3d(6, 8, 3, padding=1), nn.SiLU()]
    net = nn.Sequential(*body, nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Dropout(), nn.Linear(32, 4))
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(0.3 * torch.randn_like(value)).abs_().add_(0.01)
        for parameter in net.parameters():
            parameter.mul_(torch.randn_like(parameter).sign())
    return net


def make_video(B: int = 2) -> Tensor:
    return torch.randn(B, 2, 3, 9, 13, generator=torch.Generator().manual_seed(0))


def gradient(net: nn.Module, video: Tensor, target: Tensor) -> Tensor:
    """As many write it: what the gradient is added to is the input's own."""
    video.requires_grad_()
    net(video).gather(1, target[:, None]).sum().backward()
    return (video.grad * video).sum(1)


def edges(net: nn.Module, video: Tensor, target: Tensor) -> Tensor:
    return video.mean(1).diff(dim=3, append=video.mean(1)[..., :1]).abs()


def test_a_gradient_forgets_and_edges_do_not():
    net, video = make_net(), make_video()
    ours = sanity_check(net, video, "pred", gradient)
    assert [result.stage for result in ours] == ["", "8", "3", "1", "0"]
    with torch.no_grad():
        logits = copy.deepcopy(net).eval()(video)
    torch.testing.assert_close(ours[0].logits, logits)
    torch.testing.assert_close(ours[0].probability, logits.softmax(1).amax(1))
    for measure in ("spearman", "spearman_absolute", "ssim"):
        assert getattr(ours[0], measure).tolist() == pytest.approx([1, 1])
        assert all((getattr(result, measure) <= 1).all() for result in ours)
    assert (ours[-1].spearman.abs() < 0.5).all()
    assert (ours[-1].spearman_absolute < 0.8).all()
    assert (ours[-1].ssim < 0.5).all()
    for result in sanity_check(net, video, 0, edges)[1:]:
        assert result.spearman.tolist() == pytest.approx([1, 1])
        assert result.spearman_absolute.tolist() == pytest.approx([1, 1])
        assert result.ssim.tolist() == pytest.approx([1, 1])
        assert not torch.allclose(result.logits, logits, atol=0.01)


def test_stages_are_cumulative_and_the_class_stays():
    seen: list[tuple[dict[str, Tensor], object]] = []

    def spy(net: nn.Module, video: Tensor, target: object) -> Tensor:
        assert not any(module.training for module in net.modules())
        seen.append(({name: value.clone() for name, value in net.state_dict().items()}, target))
        return edges(net, video, target)

    net, video = make_net(), make_video()
    results = sanity_check(net, video, "pred", spy)
    trained = net.state_dict()
    predicted = results[0].logits.argmax(1)
    for position, (state, target) in enumerate(seen):
        assert torch.equal(target, predicted)
        random = ["8", "3", "1", "0"][:position]
        for name, value in state.items():
            if "num_batches" not in name:
                same = value == trained[name]
                assert not same.any() if name.split(".")[0] in random else same.all()
        if position > 1:  # and what is random stays so
            assert torch.equal(state["8.weight"], seen[1][0]["8.weight"])
    assert torch.equal(seen[-1][0]["1.running_mean"], torch.zeros(6))
    assert torch.equal(seen[-1][0]["1.running_var"], torch.ones(6))
    for result in results:
        torch.testing.assert_close(result.probability, result.logits.softmax(1)[range(2), predicted])
    sanity_check(net, video, Difference(1, 3), spy, stages=["8"])
    assert (seen[-1][1].first.tolist(), seen[-1][1].second.tolist()) == ([1, 1], [3, 3])


def test_nothing_of_the_caller_changes():
    net, video = make_net(), make_video()
    net[1].eval()
    net[3].weight.requires_grad_(False)
    state, pixels = copy.deepcopy(net.state_dict()), video.clone()
    flags = [(p.requires_grad, p.grad is None) for p in net.parameters()]
    training = [module.training for module in net.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    sanity_check(net, video, 0, gradient)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [(p.requires_grad, p.grad is None) for p in net.parameters()] == flags
    assert [module.training for module in net.modules()] == training
    assert torch.equal(video, pixels)
    assert not video.requires_grad


def test_the_random_networks_depend_on_the_seed_alone():
    def noisy(net: nn.Module, video: Tensor, target: Tensor) -> Tensor:
        return gradient(net, video, target) + 1e-4 * torch.randn(2, 3, 9, 13)

    net, video = make_net(), make_video()
    torch.manual_seed(1)
    first = sanity_check(net, video, 0, gradient)
    torch.manual_seed(2)
    for one, other in zip(first, sanity_check(net, video, 0, noisy), strict=True):
        assert torch.equal(one.logits, other.logits)
    again = sanity_check(net, video, 0, gradient, seed=3)
    assert torch.equal(again[0].logits, first[0].logits)
    assert not torch.allclose(again[1].logits, first[1].logits)
    assert first[0].metadata["seed"] == 0
    assert again[0].metadata["stages"] == ["8", "3", "1", "0"]


def test_a_batch_is_its_clips():
    net, video, target = make_net(), make_video(), torch.tensor([3, 1])
    both = sanity_check(net, video, target, gradient)
    for b in range(2):
        for one, whole in zip(sanity_check(net, video[b : b + 1], int(target[b]), gradient), both, strict=True):
            assert one.saliency.shape == (1, 3, 9, 13)
            torch.testing.assert_close(one.spearman[0], whole.spearman[b], atol=1e-3, rtol=0)
            torch.testing.assert_close(one.ssim[0], whole.ssim[b], atol=1e-3, rtol=0)
            torch.testing.assert_close(one.probability[0], whole.probability[b])


class Block(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, 1, batch_first=True)
        self.scale = nn.Parameter(torch.full((size,), 5.0))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.scale[:3])  # and leaves the rest

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.scale * self.attention(tokens, tokens, tokens)[0]


class Transformer(nn.Module):
    """Parameters of all the kinds that have no `reset_parameters` of their own, nested as they are in practice."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.full((1, 1, 8), 5.0))
        self.embed = weight_norm(nn.Conv3d(2, 8, (1, 4, 4), (1, 4, 4)))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([Block(8), Block(8)])
        self.norm = nn.LayerNorm(8)
        self.unused = nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.embed(video).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(video), -1, -1), tokens], 1)
        for layer in self.encoder.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens[:, 0]))


class Wrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        return self.model(video)


def test_stages_of_nested_networks():
    names = ["head", "norm", "encoder", "embed", "*"]
    assert default_stages(Transformer()) == names
    assert default_stages(Wrapper(Transformer())) == [f"model.{name}" for name in names]
    large = Transformer()
    large.encoder.layers.extend([Block(8) for _ in range(8)])
    layers = [f"encoder.layers.{i}" for i in reversed(range(10))]
    assert default_stages(large) == ["head", "norm", *layers, "embed", "*"]
    assert default_stages(nn.Sequential(nn.Sequential(nn.Conv3d(2, 3, 1), nn.ReLU(), nn.Conv3d(3, 4, 1)))) == [
        "0.2",
        "0.0",
    ]
    assert default_stages(nn.Linear(3, 2)) == ["*"]
    nine_tenths = nn.Sequential(nn.Sequential(nn.Linear(8, 1)), nn.Linear(1, 1, bias=False))
    assert default_stages(nine_tenths) == ["1", "0"]


def test_nothing_learnt_is_left_in_any_kind_of_parameter():
    torch.manual_seed(0)
    net = Wrapper(Transformer())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.rand_like(parameter) + 0.5)
    last: list[nn.Module] = []

    def spy(network: nn.Module, video: Tensor, target: Tensor) -> Tensor:
        last[:] = [network]
        return gradient(network, video, target)

    results = sanity_check(net, make_video()[..., :8, :12].contiguous(), 0, spy)
    assert [result.stage for result in results] == ["", *default_stages(net)]
    for (name, trained), random in zip(net.named_parameters(), last[0].parameters(), strict=True):
        assert not (trained == random).any(), name
        assert random.isfinite().all()
    assert float(last[0].model.token.detach().abs().max()) < 0.1


def test_a_module_of_its_own_forgets_without_its_children():
    def spy(network: nn.Module, video: Tensor, target: Tensor) -> Tensor:
        last[:] = [network]
        return gradient(network, video, target)

    last: list[nn.Module] = []
    net = Transformer()
    sanity_check(net, make_video()[..., :8, :12].contiguous(), 0, spy, stages=["*"])
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, last[0].state_dict()[name])]
    assert changed == ["token"]


class Crowded(nn.Module):
    """Its answers may depend on how many clips it is given, which it notes."""

    seen: ClassVar[list[int]] = []

    def __init__(self, depends: bool) -> None:
        super().__init__()
        self.depends = depends
        self.linear = nn.Linear(2 * 3 * 9 * 13, 4)

    def forward(self, video: Tensor) -> Tensor:
        self.seen.append(len(video))
        return self.linear(video.flatten(1)) * (len(video) if self.depends else 1)


def test_clips_go_together_unless_the_answers_depend_on_that():
    def logits(B: int, depends: bool) -> tuple[Tensor, list[int]]:
        torch.manual_seed(0)
        Crowded.seen.clear()
        found = sanity_check(Crowded(depends), make_video()[:B], 0, edges, stages=[])
        return found[0].logits, Crowded.seen

    alone, seen = logits(2, False)
    assert seen.count(2) > 1
    with pytest.warns(ModelWarning, match="batch"):
        other, seen = logits(2, True)
    torch.testing.assert_close(other, alone)
    one, seen = logits(1, True)
    torch.testing.assert_close(one, alone[:1])
    assert set(seen) == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ["8", "layer9"]}, r"^stages must be names of the model's modules, such as 8, 3, 1, 0; got layer9$"),
        ({"explain": lambda *_: torch.zeros(2, 3, 9, 12)}, r"^explain must return \(B, T, H, W\) .* \(2, 3, 9, 12\)$"),
        ({"explain": lambda *_: torch.full((2, 3, 9, 13), torch.nan)}, r"^explain's map must be finite; got NaN"),
        ({"model": lambda x: x}, r"^model must be a torch.nn.Module to be randomised; got function$"),
        ({"target": 4}, r"^target must be a class from 0 to 3; got 4$"),
        ({"video": make_video()[0]}, r"^video must have shape \(B, C, T, H, W\)"),
    ],
    ids=["stage", "shape", "NaN", "function", "target", "video"],
)
def test_bad_arguments_get_one_line(change, message):
    arguments = {"model": make_net(), "video": make_video(), "target": 0, "explain": gradient, **change}
    with pytest.raises(InputError, match=message) as caught:
        sanity_check(**arguments)
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_copied():
    net = make_net()
    net[0].cache = net[0].weight * 2  # no leaf of the graph
    with pytest.raises(InputError, match=r"^model must allow copy.deepcopy to be randomised; Only Tensors"):
        sanity_check(net, make_video(), 0, gradient)


def test_spearman_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((2, 4, 3, 7, 5))
    b[1] += a[1]
    b[2] = -(a[2] ** 3)
    a[3], b[3] = generator.integers(0, 4, (2, 3, 7, 5))  # ties all over
    expected = [stats.spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-12)
    assert expected[2] == pytest.approx(-1)
    np.testing.assert_allclose(spearman(torch.from_numpy(a) * 1e-200, b * 1e200), expected, atol=1e-12)


def test_spearman_by_hand():
    # Ranks 1, 2.5, 2.5, 4 and 4, 1, 2, 3: centred products -1.5 * 1.5 + 0 + 0 + 1.5 * 0.5, over sqrt(4.5 * 5).
    values = spearman(torch.tensor([[[1.0, 2.0, 2.0, 9.0]]]), torch.tensor([[[8.0, 0.0, 0.1, 0.2]]]))
    assert values.tolist() == pytest.approx([-1.5 / 22.5**0.5])
    assert average_ranks(np.array([1.0, 2.0, 2.0, 9.0])).tolist() == [1, 2.5, 2.5, 4]


def test_ssim_range_and_scale():
    generator = np.random.default_rng(0)
    a = generator.standard_normal((2, 3, 12, 17))
    assert ssim(a, a).tolist() == pytest.approx([1, 1])
    assert ssim(a, 3e4 * a - 7).tolist() == pytest.approx([1, 1])  # each is scaled by itself
    assert (ssim(a, -a) < -0.5).all()
    other = generator.standard_normal((2, 3, 12, 17))
    assert (ssim(a, other).abs() < 0.3).all()
    torch.testing.assert_close(ssim(a, other), ssim(other, a))
    torch.testing.assert_close(ssim(a[1], other[1]), ssim(a, other)[1:])
    # Against its definition, in the only window that fits frames of 3 and 7 pixels: means, variances and covariance.
    for side in (3, 7):
        x, y = a[0, :1, :side, :side], other[0, :1, :side, :side]
        p, q = ((part - part.min()) / np.ptp(part) for part in (x, y))
        covariance = np.cov(p.ravel(), q.ravel())
        top = (2 * p.mean() * q.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
        bottom = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
        assert float(ssim(x, y)) == pytest.approx(top / bottom)


def test_constant_maps_give_nan():
    a = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    flat = torch.stack([a[0], torch.full_like(a[0], 0.1)])
    for measure in (spearman, ssim):
        for value in (measure(a, flat), measure(flat, a)):
            assert float(value[0]) == pytest.approx(1)
            assert value[1].isnan()
        assert measure(flat.flip(0), a.flip(0)).isnan().tolist() == [True, False]
    results = sanity_check(make_net(), make_video(), 0, lambda *_: torch.zeros(2, 3, 9, 13))
    assert all(result.spearman.isnan().all() and result.ssim.isnan().all() for result in results)


def test_maps_that_cannot_be_compared(monkeypatch):
    with pytest.raises(InputError, match=r"^maps must have one shape to be compared; got \(1, 3, 9, 8\) and \(1, 3, 8"):
        spearman(torch.zeros(3, 9, 8), torch.zeros(3, 8, 9))
    with pytest.raises(InputError, match=r"^maps must have frames of at least 3x3 pixels for ssim; got 2x9$"):
        ssim(torch.zeros(3, 2, 9), torch.zeros(3, 2, 9))
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(
        InputError, match=r"^ssim must have skimage; it is missing: pip install .aosa-fast\[evaluate\].$"
    ):
        ssim(torch.zeros(3, 9, 9), torch.zeros(3, 9, 9))
