from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from aosa_fast import InputError, explain
from small_nets import make_video

METHODS = ("aosa", "aosa-approx", "aosa-path")


def make_net(channels: int = 3, *, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(channels, 8, 3, (1, 3, 3), 1), nn.BatchNorm3d(8), nn.ReLU(inplace), nn.AdaptiveAvgPool3d((1, 2, 2)),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 6),
    ).eval()  # fmt: skip


class Wrapped(nn.Module):
    """A network whose input or output something is done to, and which keeps what it was given."""

    def __init__(self, net: nn.Module, *, before=lambda x: x, after=lambda x: x) -> None:
        super().__init__()
        self.net, self.before, self.after, self.seen = net, before, after, []

    def forward(self, video: Tensor) -> object:
        self.seen.append(video)
        return self.after(self.net(self.before(video)))


def state_of(net: nn.Module) -> list[object]:
    hooks = [(len(m._forward_hooks), len(m._backward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    return [
        [m.training for m in net.modules()],
        [(p.requires_grad, p.grad is None, p.dtype) for p in net.parameters()],
        hooks,
        [value.clone() for value in net.state_dict().values()],
    ]


def assert_unchanged(before: list[object], after: list[object]) -> None:
    assert before[:3] == after[:3]
    assert all(torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))


def mixed_flags(net: nn.Sequential) -> nn.Sequential:
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[2].register_forward_hook(lambda *_: None)
    return net


@pytest.mark.parametrize("method", METHODS)
def test_flags_gradients_hooks_and_weights_stay(method):
    net, video = mixed_flags(make_net()), make_video()
    before, pixels = state_of(net), video.clone()
    explain(net, video, [0, 1], method=method, check=0 if method == "aosa" else 2)
    assert_unchanged(before, state_of(net))
    assert torch.equal(video, pixels)
    assert not video.requires_grad
    assert torch.is_grad_enabled()


class Broken(nn.Module):
    """Works a few times, then fails in its own way."""

    def __init__(self, failure: str, good: int) -> None:
        super().__init__()
        self.net, self.failure, self.left = mixed_flags(make_net()), failure, good

    def forward(self, video: Tensor) -> Tensor:
        self.left -= 1
        logits: Tensor = self.net(video)
        if self.left >= 0:
            return logits
        if self.failure == "raises":
            raise ZeroDivisionError("deep inside")
        return logits * torch.nan if self.failure == "nan" else logits[:, :, None]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", ["raises", "nan", "shape"])
@pytest.mark.parametrize("good", [0, 1, 2, 3])
def test_all_stays_also_after_an_exception(failure, good, method):
    model = Broken(failure, good)
    before = state_of(model)
    with pytest.raises(InputError) as caught:
        explain(model, make_video(B=3), 0, method=method, batch_size=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError if failure == "raises" else type(None))
    assert_unchanged(before, state_of(model))


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_mode_is_used(method):
    net, video = make_net(), make_video(B=2)
    expected = explain(net, video, 1, method=method)
    net.train()
    assert torch.equal(explain(net, video, 1, method=method).saliency, expected.saliency)
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_normalises_in_place_is_no_trouble(method):
    net, video = make_net(), make_video(B=2)
    expected = explain(Wrapped(net, before=lambda x: (x - 1) / 2), video, 1, method=method)
    pixels = video.clone()
    result = explain(Wrapped(net, before=lambda x: x.sub_(1).div_(2)), video, 1, method=method)
    assert torch.equal(video, pixels)
    torch.testing.assert_close(result.scores, expected.scores, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(result.saliency, expected.saliency, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(result.clean_scores, expected.clean_scores)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "model",
    [
        Wrapped(make_net(), after=lambda logits: SimpleNamespace(logits=logits)),
        Wrapped(make_net(), after=lambda logits: {"logits": logits, "hidden": None}),
        make_net(inplace=True),
        make_net().double(),
    ],
    ids=["object", "mapping", "inplace ReLU", "float64"],
)
def test_other_kinds_of_model_give_the_same(model, method):
    result = explain(model, make_video(), 2, method=method, score="logit")
    expected = explain(make_net(), make_video(), 2, method=method, score="logit")
    torch.testing.assert_close(result.scores, expected.scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.saliency, expected.saliency, rtol=1e-4, atol=1e-6)
    assert result.saliency.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_a_bfloat16_model_gets_bfloat16_and_gives_nearly_the_same(method):
    model = Wrapped(make_net().bfloat16())
    result = explain(model, make_video(), 2, method=method, score="logit", fill="black", mean=[1], std=[0.05])
    expected = explain(make_net(), make_video(), 2, method=method, score="logit", fill="black", mean=[1], std=[0.05])
    assert {batch.dtype for batch in model.seen} == {torch.bfloat16}
    assert result.saliency.dtype == result.scores.dtype == result.clean_scores.dtype == torch.float32
    # Worst error measured: 0.12 of the largest drop, for the exact method, from the steps of 2^-8 of its logits.
    limit = float(expected.scores.abs().max())
    torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=0.25 * limit)
    assert torch.corrcoef(torch.cat([result.scores, expected.scores]))[0, 1] > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_a_channels_last_model_gets_channels_last_batches(method):
    model = Wrapped(make_net().to(memory_format=torch.channels_last_3d))
    result = explain(model, make_video(B=2), 2, method=method)
    assert all(batch.is_contiguous(memory_format=torch.channels_last_3d) for batch in model.seen)
    assert not any(batch.is_contiguous() for batch in model.seen)
    expected = explain(make_net(), make_video(B=2), 2, method=method)
    torch.testing.assert_close(result.saliency, expected.saliency, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(method, channels):
    result = explain(make_net(channels), make_video(C=channels), 2, method=method)
    assert result.frames.shape == (1, 4, 32, 40, 3)
    assert float(result.saliency.abs().max()) > 0


def test_two_threads_may_explain_one_model_at_once():
    net, video = mixed_flags(make_net()), make_video()
    before, maps, modes = state_of(net), [], []
    meet = threading.Barrier(2, timeout=20)

    def work(method: str) -> None:
        meet.wait()
        for _ in range(3):
            maps.append((method, explain(net, video, 1, method=method).saliency))

    watch = net[5].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    threads = [threading.Thread(target=work, args=(method,)) for method in ("aosa", "aosa-approx")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    watch.remove()
    assert len(maps) == 6
    assert not any(modes)
    assert_unchanged(before, state_of(net))
    for method in ("aosa", "aosa-approx"):
        one, *others = (saliency for name, saliency in maps if name == method)
        assert all(torch.equal(one, other) for other in others)


def test_a_plain_function_and_no_grad_mode_are_fine():
    net, video = make_net(), make_video()
    with torch.no_grad():
        results = [explain(lambda clips: net(clips), video, 1, method=method) for method in METHODS]
        assert not torch.is_grad_enabled()
    for method, result in zip(METHODS, results, strict=True):
        assert torch.equal(result.saliency, explain(net, video, 1, method=method).saliency)
