from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from torch import Tensor, nn

from aosa_fast import Difference, InputError, explain
from aosa_fast.config import Config
from aosa_fast.methods.fills import content_hash
from aosa_fast.methods.gradients import gradient, input_x_gradient, integrated_gradients, smoothgrad
from aosa_fast.models import load
from aosa_fast.targets import class_scores, resolve_target

METHODS = {
    "gradient": gradient,
    "input-x-gradient": input_x_gradient,
    "smoothgrad": smoothgrad,
    "integrated-gradients": integrated_gradients,
}
FEW = {"smoothgrad": {"noise_samples": 5}, "integrated-gradients": {"steps": 5}}
TARGETS = (1, Difference("pred", 2), torch.tensor([0, 3, 1]))


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv3d(2, 6, 3, (1, 2, 2), 1), nn.SiLU(), nn.AdaptiveAvgPool3d((1, 2, 3)), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(36, 4)).eval()
    net[-1].weight.data *= 10
    return net


def make_video(B: int = 3) -> Tensor:
    """Three clips of unlike ranges."""
    video = torch.randn(B, 2, 5, 12, 17, generator=torch.Generator().manual_seed(1))
    return video * torch.linspace(0.5, 2, B).reshape(-1, 1, 1, 1, 1)


def run(method: str, net, video: Tensor, *targets, **options) -> list[Tensor]:
    """The maps; the logits are held against the model's."""
    asked = []

    def resolve(logits: Tensor):
        asked.append(logits)
        return [resolve_target(target, logits) for target in targets]

    config = Config(method=method, **options)
    logits, resolved, maps = METHODS[method](net, video, config, resolve)
    assert len(asked) == 1
    assert len(resolved) == len(maps) == len(targets)
    assert torch.equal(logits, asked[0])
    assert not logits.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(logits, net(video.clone()))
    for saliency in maps:
        assert saliency.shape == (len(video), *video.shape[2:])
        assert saliency.dtype == torch.float32
        assert not saliency.requires_grad
        assert torch.isfinite(saliency).all()
    return maps


def score_of(net: nn.Module, target, logits: Tensor, score: str):
    """What captum is to differentiate: the explained score of each clip, whatever is repeated."""
    resolved = resolve_target(target, logits)

    def forward(clips: Tensor) -> Tensor:
        repeats = len(clips) // len(resolved.index)  # captum's integrated gradients repeat the batch as a whole
        scores = class_scores(net(clips), score)
        first = scores.gather(1, resolved.index.repeat(repeats).unsqueeze(1)).squeeze(1)
        if resolved.minus is None:
            return first
        return first - scores.gather(1, resolved.minus.repeat(repeats).unsqueeze(1)).squeeze(1)

    return forward


@pytest.mark.parametrize("score", ["prob", "logit", "logprob", "margin"])
@pytest.mark.parametrize("method", ["gradient", "input-x-gradient", "integrated-gradients"])
def test_equals_captum(method, score):
    net, video = make_net(), make_video()
    maps = run(method, net, video, *TARGETS, score=score, batch_size=4, **FEW.get(method, {}))
    with torch.no_grad():
        logits = net(video)
    for target, saliency in zip(TARGETS, maps, strict=True):
        forward, clips = score_of(net, target, logits, score), video.clone().requires_grad_()
        if method == "gradient":
            expected = Saliency(forward).attribute(clips, abs=True)
        elif method == "input-x-gradient":
            expected = InputXGradient(forward).attribute(clips)
        else:
            expected = IntegratedGradients(forward).attribute(clips, n_steps=5)
        expected = expected.detach().sum(1).float()
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(saliency, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


class Quadratic(nn.Module):
    """Class 0 scores sum a x^2, class 1 nothing; its input gradient is 2 a x."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = a

    def forward(self, video: Tensor) -> Tensor:
        score = (self.a * video.square()).sum((1, 2, 3, 4))
        return torch.stack([score, torch.zeros_like(score)], 1)


def make_weights(video: Tensor, seed: int = 2) -> Tensor:
    return torch.randn(video.shape[1:], generator=torch.Generator().manual_seed(seed))


def test_closed_forms_of_a_linear_model():
    video = make_video()
    w = make_weights(video)
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.numel(), 2, bias=False))
    net[1].weight.data = torch.stack([w.flatten(), -0.5 * w.flatten()])
    size, share = w.abs().sum(0).expand(3, -1, -1, -1), (w * video).sum(1)
    for method in METHODS:
        one, half, both = run(method, net, video, 0, 1, Difference(0, 1), score="logit", **FEW.get(method, {}))
        expected, sign = (size, 1) if method in ("gradient", "smoothgrad") else (share, -1)
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(half, sign * 0.5 * expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both, 1.5 * expected, rtol=1e-4, atol=1e-5)


def drawn_noise(video: Tensor, samples: int, noise: float, seed: int) -> Tensor:
    """(B, samples, C, T, H, W), from the rule in smoothgrad's docstring."""
    rows = []
    for clip in video:
        sigma = noise * (clip.max() - clip.min())
        draws = [np.random.default_rng((seed, content_hash(clip), 1 + i)) for i in range(samples)]
        rows.append(
            sigma * torch.stack([torch.from_numpy(g.standard_normal(clip.shape, dtype=np.float32)) for g in draws])
        )
    return torch.stack(rows)


def test_smoothgrad_of_a_quadratic_model():
    video = make_video()
    a = make_weights(video)
    noise = drawn_noise(video, 6, 0.3, 5)
    (saliency,) = run("smoothgrad", Quadratic(a), video, 0, score="logit", noise_samples=6, noise=0.3, seed=5)
    expected = (2 * a * (video + noise.mean(1))).abs().sum(1)
    torch.testing.assert_close(saliency, expected, rtol=1e-5, atol=1e-5)
    # Six samples leave a trace of the noise, as large as it should be: 0.3 of the range over the root of 6.
    spread = noise.mean(1).std((1, 2, 3, 4)) / (0.3 * (video.amax((1, 2, 3, 4)) - video.amin((1, 2, 3, 4))))
    torch.testing.assert_close(spread, torch.full((3,), 6**-0.5), rtol=0.1, atol=0)


def test_smoothgrad_without_noise_is_the_gradient():
    net, video = make_net(), make_video()
    smooth = run("smoothgrad", net, video, *TARGETS, noise=0.0, noise_samples=3)
    for a, b in zip(smooth, run("gradient", net, video, *TARGETS), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_smoothgrad_takes_the_size_after_the_mean():
    """Of a saddle between two noisy slopes nothing is left, where a mean of sizes would not vanish."""
    video = torch.zeros(1, 1, 2, 6, 6)
    video[..., 0, 0] = 1
    (saliency,) = run("smoothgrad", Quadratic(torch.ones(1)), video, 0, score="logit", noise_samples=400, noise=0.5)
    assert saliency[0, 0, 3, 3] < 0.15 < 2 * 0.5 * (2 / np.pi) ** 0.5  # the latter is the mean of |2 noise|


def test_the_seed_and_only_the_seed_changes_the_noise():
    net, video = make_net(), make_video()
    first, again, other = (run("smoothgrad", net, video, 1, noise_samples=2, seed=s)[0] for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-2)
    torch.manual_seed(123)
    assert torch.equal(run("smoothgrad", net, video, 1, noise_samples=2)[0], first)


@pytest.mark.parametrize("steps", [1, 4])
def test_integrated_gradients_of_a_quadratic_model(steps):
    video = make_video()
    a = make_weights(video)
    (saliency,) = run("integrated-gradients", Quadratic(a), video, 0, score="logit", steps=steps)
    torch.testing.assert_close(saliency, (a * video.square()).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["prob", "logit"])
def test_integrated_gradients_are_complete(score):
    net, video = make_net(), make_video()
    maps = run("integrated-gradients", net, video, *TARGETS, score=score)
    with torch.no_grad():
        here, zero = (class_scores(net(clips), score) for clips in (video, torch.zeros_like(video)))
    for target, saliency in zip(TARGETS, maps, strict=True):
        resolved = resolve_target(target, net(video))
        change = resolved.pick(here) - resolved.pick(zero)
        assert change.abs().max() > 0.1
        torch.testing.assert_close(saliency.sum((1, 2, 3)), change, rtol=1e-3, atol=1e-4)


def test_expected_gradients_of_a_linear_model_are_the_weighted_distances_from_the_other_clips():
    video = make_video()
    w = make_weights(video)
    net = nn.Sequential(nn.Flatten(), nn.Linear(w.numel(), 2, bias=False))
    net[1].weight.data = torch.stack([w.flatten(), -w.flatten()])
    options = {"method": "expected-gradients", "score": "logit", "batch_size": 1}
    pair = explain(net, video[:2], 0, steps=3, **options).saliency
    torch.testing.assert_close(pair, (w * (video[:2] - video[:2].flip(0))).sum(1), rtol=1e-4, atol=1e-4)
    # Of two others each is drawn about as often: its share is 1/2, with a deviation of 1/40 at 400 samples.
    three = explain(net, video, 0, steps=400, **options).saliency
    others = video[torch.tensor([[1, 2], [0, 2], [0, 1]])]
    for clip in range(3):
        first, second = ((w * (video[clip] - other)).sum(0) for other in others[clip])
        share = (three[clip] - second).flatten() @ (first - second).flatten() / (first - second).square().sum()
        assert float(share) == pytest.approx(0.5, abs=0.1)
        torch.testing.assert_close(three[clip], share * first + (1 - share) * second, rtol=1e-3, atol=1e-3)


def test_expected_gradients_are_complete_on_average():
    video = make_video()[:2]
    a = make_weights(video)
    maps = explain(Quadratic(a), video, 0, method="expected-gradients", score="logit", steps=2000).saliency
    scores = Quadratic(a)(video)[:, 0]
    torch.testing.assert_close(maps.sum((1, 2, 3)), scores - scores.flip(0), rtol=0.1, atol=0)


def test_expected_gradients_need_two_clips():
    with pytest.raises(InputError, match=r"^video must have at least two clips for expected-gradients, .*; got 1$"):
        explain(make_net(), make_video()[:1], 0, method="expected-gradients")


@pytest.mark.parametrize("method", METHODS)
def test_a_clip_alone_is_as_in_a_batch(method):
    net, video = make_net(), make_video()
    options = FEW.get(method, {})
    together = run(method, net, video, *TARGETS, batch_size=4, **options)
    for b in range(3):
        targets = [1, Difference("pred", 2), int(TARGETS[2][b])]
        alone = run(method, net, video[b : b + 1], *targets, batch_size=1, **options)
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[b], rtol=1e-4, atol=1e-6)


class InPlace(nn.Module):
    """Normalises its input where it lies, and keeps how many clips it was given at once."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.sizes = net, []

    def forward(self, video: Tensor) -> Tensor:
        self.sizes.append(len(video))
        return self.net(video.sub_(0.5).mul_(2.0))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method):
    net, video = InPlace(make_net()), make_video()
    before = video.clone()
    options = FEW.get(method, {})
    sizes = 3 if method in ("gradient", "input-x-gradient") else 2
    maps = run(method, net, video, 1, 2, batch_size=2, **options)
    assert max(net.sizes[:-1]) == sizes  # the last is this test's own call
    assert torch.equal(video, before)
    assert not video.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    # The same network, normalising out of place.
    plain = lambda clips: net.net((clips - 0.5) * 2.0)  # noqa: E731
    for a, b in zip(maps, run(method, plain, video, 1, 2, **options), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_refuses_a_model_without_a_gradient(method):
    net = make_net()
    with pytest.raises(InputError, match="model must be differentiable by its input"):
        run(method, lambda clips: net(clips.detach()), make_video(), 1)


class Cubes(nn.Module):
    """Rounds a clip alike in a batch of any size: there is no matrix to multiply."""

    def forward(self, video: Tensor) -> Tensor:
        values = (video**3).flatten(1)
        return torch.stack([values.double().sum(1).float(), values[:, ::2].double().sum(1).float()], 1)


AVERAGED = {"aosa-path": {"steps": 7, "stride": 4}, "integrated-gradients": {"steps": 7}, "smoothgrad": {}}


@pytest.mark.parametrize("method", AVERAGED)
def test_the_sum_of_gradients_does_not_depend_on_the_batch(method):
    video = torch.randn(2, 3, 4, 12, 16, generator=torch.Generator().manual_seed(0))

    def saliency(batch_size):
        options = AVERAGED[method] | {"flow": torch.zeros(2, 3, 12, 16, 2), "score": "logit"}
        return explain(Cubes(), video, 1, method=method, batch_size=batch_size, **options).saliency

    expected = saliency(1)
    assert expected.any()
    for batch_size in (2, 3, 5, 14, 0):
        assert torch.equal(saliency(batch_size), expected)


@pytest.mark.parametrize("method", AVERAGED)
def test_the_number_of_threads_does_not_change_the_map(method):
    before, maps = torch.get_num_threads(), []
    video = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 16, 64, 64, 3), dtype=np.uint8))
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            maps.append(explain(load("demo"), video, method=method, **AVERAGED[method]).saliency)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, maps[0]) for one in maps)
