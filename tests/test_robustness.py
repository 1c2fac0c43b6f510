from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Config, Difference, InputError, explain

METHODS = ("aosa", "aosa-approx", "aosa-path")


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(32, 6))


def make_video(B: int = 1) -> Tensor:
    return torch.randn(B, 3, 4, 32, 40, generator=torch.Generator().manual_seed(0))


def refused(message: str, model=None, video=None, target=0, error: type[Exception] = InputError, **options) -> None:
    video = make_video() if video is None else video
    with pytest.raises(error, match=message) as caught:
        explain(make_net() if model is None else model, video, target, **options)
    assert "\n" not in str(caught.value)


BAD_VIDEOS = {
    "4-D": (make_video()[0], InputError, r"^video must have shape .*; got \(3, 4, 32, 40\); add a batch dimension"),
    "3-D": (make_video()[0, 0], InputError, r"^video must have shape \(B, C, T, H, W\), .*; got \(4, 32, 40\)$"),
    "no clips": (make_video()[:0], InputError, r"^video must have shape .*; got \(0, 3, 4, 32, 40\)$"),
    "no frames": (make_video()[:, :, :0], InputError, r"^video must have shape .*; got \(1, 3, 0, 32, 40\)$"),
    "float64": (make_video().double(), TypeError, r"^video must be float32, .*; got torch.float64$"),
    "int32": (make_video().int(), TypeError, r"^video must be float32, .*; got torch.int32$"),
    "uint8 planes": (
        make_video().to(torch.uint8),
        InputError,
        r"^video of uint8 pictures must have shape \(B, T, H, W, 3\); got \(1, 3, 4, 32, 40\)$",
    ),
    "uint8 alone": (
        torch.zeros(1, 4, 32, 40, 3, dtype=torch.uint8),
        InputError,
        r"^video of uint8 pictures must come with mean and std; got none$",
    ),
    "NaN": (
        make_video().index_fill(3, torch.tensor(5), torch.nan),
        InputError,
        r"^video must be finite; got NaN or inf",
    ),
    "infinite": (make_video() / 0, InputError, r"^video must be finite; got NaN or infinity$"),
    "array": (make_video().numpy(), TypeError, r"^video must be a torch.Tensor; got ndarray$"),
    "elsewhere": (make_video().to("meta"), InputError, r"^video must be on a CPU or a CUDA device; got meta$"),
}


@pytest.mark.parametrize("kind", BAD_VIDEOS)
def test_bad_videos(kind):
    video, error, message = BAD_VIDEOS[kind]
    refused(message, video=video, error=error)


BAD_OUTPUTS = {
    "3-D": (lambda x: x[:, 0, 0], r"^model must return one row .* with B=1; got \(1, 32, 40\)$"),
    "one row too many": (lambda x: x.new_zeros(len(x) + 1, 6), r"^model must return one row .*; got \(2, 6\)$"),
    "1-D": (lambda x: x.sum((1, 2, 3, 4)), r"^model must return one row .*; got \(1,\)$"),
    "no classes": (lambda x: x.new_zeros(len(x), 0), r"^model must return one row .*; got \(1, 0\)$"),
    "NaN": (lambda x: x.new_full((len(x), 6), torch.nan), r"^model must return finite logits; got 6 NaN or infinite$"),
    "infinite": (lambda x: x.mean((2, 3, 4)) / 0, r"^model must return finite logits; got 3 NaN or infinite$"),
    "tuple": (lambda x: (x, x), r"^model must return logits as a tensor, or an object with \.logits; got tuple$"),
    "nothing": (lambda x: None, r"^model must return logits .*; got NoneType$"),
    "mapping without": (lambda x: {"out": x}, r"^model must return logits .*; got NoneType$"),
    "object without": (lambda x: SimpleNamespace(logits=3), r"^model must return logits .*; got int$"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", BAD_OUTPUTS)
def test_bad_outputs(kind, method):
    model, message = BAD_OUTPUTS[kind]
    refused(message, model=model, method=method)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (6, r"^target must be a class from 0 to 5; got 6$"),
        (-1, r"^target must be a class from 0 to 5; got -1$"),
        ("walking", r"^target must be an index, as this model has no class names; got walking$"),
        (torch.tensor([0.5]), r"^target must be integer class indices; got torch.float32$"),
        (torch.tensor([0, 1]), r"^target must have one class per clip, B=1; got shape \(2,\)$"),
        (True, r"^target must be an index, .*; got True$"),
        ([], r"^target must name at least one class; got an empty list$"),
        ([0, 9], r"^target must be a class from 0 to 5; got 9$"),
        (Difference(0, 9), r"^target must be a class from 0 to 5; got 9$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_targets(target, message, method):
    refused(message, target=target, method=method)


@pytest.mark.parametrize("names", [["only", "two"], []], ids=["too few", "none"])
def test_class_names_are_one_per_class(names):
    if names:
        refused(r"^class_names must .*6.*; got 2$", target=5, class_names=names)
    else:
        assert explain(make_net(), make_video(), 5, class_names=names).metadata["target"] == ["class 5"]


FRAMES = np.zeros((1, 4, 32, 40, 3), dtype=np.uint8)
BAD_OPTIONS = {
    "flow name": ({"flow": "lucas"}, r"^flow must be one of farneback, .*; got lucas$"),
    "flow shape": (
        {"flow": torch.zeros(1, 4, 32, 40, 2)},
        r"^flow must have shape \(1, 3, 32, 40, 2\), .*; got \(1, 4,",
    ),
    "flow dtype": ({"flow": torch.zeros(1, 3, 32, 40, 2).int()}, r"^flow must be floating point; got torch.int32$"),
    "flow of a small frame": ({"flow": "dis-fast", "video": make_video()[..., :11]}, r"^flow=dis-fast .*32x11$"),
    "fill": ({"fill": "grey"}, r"^fill must be one of mean, black, blur, conditional; got grey$"),
    "fill shape": ({"fill": torch.zeros(5)}, r"^fill must broadcast to \(1, 3, 4, 32, 40\); got \(5,\)$"),
    "black": ({"fill": "black"}, r"^fill=black must come with the mean and std .*; got none$"),
    "score": ({"score": "softmax"}, r"^score must be one of prob, logit, logprob, margin; got softmax$"),
    "method": ({"method": "lime"}, r"^method must be one of aosa-approx, aosa, aosa-path, grad-cam, .*; got lime$"),
    "stride": ({"stride": 64}, r"^stride must be at most 63 for frames of 32x40; got 64$"),
    "box": ({"box": 0}, r"^box must be at least 1; got 0$"),
    "samples": ({"samples": 2}, r"^samples must be 0 unless .*; got samples=2, method=aosa-approx, fill=None$"),
    "frames dtype": ({"frames": FRAMES.astype(np.float32)}, r"^frames must be uint8; got float32$"),
    "frames shape": (
        {"frames": FRAMES[:, 1:]},
        r"^frames must have shape \(1, 4, 32, 40, 3\); got \(1, 3, 32, 40, 3\)$",
    ),
    "mean": ({"mean": [1, 2], "std": [1]}, r"^mean must have one value, or one per channel, C=3; got 2$"),
    "std": ({"mean": [1], "std": [0]}, r"^std must be finite and positive; got \[0.0\]$"),
    "one class": (
        {"model": lambda x: x.mean((2, 3, 4))[:, :1], "score": "margin"},
        r"^score=margin must have at least",
    ),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(kind):
    options, message = BAD_OPTIONS[kind]
    refused(message, **options)


@pytest.mark.parametrize("options", [{"strid": 4}, {"strid": 4, "config": Config()}])
def test_unknown_options_are_no_option(options):
    refused("strid", error=TypeError, **options)


class Steep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return torch.full((len(grad), 3, 4, 32, 40), torch.nan)


@pytest.mark.parametrize("method", ["aosa-approx", "aosa-path"])
def test_models_without_a_gradient(method):
    net = make_net()
    needed = r"^model must be differentiable by its input for this method; use method=aosa$"
    refused(needed, model=lambda x: net(x).detach(), method=method)
    refused(needed, model=lambda x: net(x.detach()), method=method)
    refused(r"^model must have a finite gradient by its input; got NaN or inf", model=Steep.apply, method=method)
    for model in (lambda x: net(x.detach()), Steep.apply):
        explain(model, make_video(), 0, method="aosa")


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_deep_in_the_work_leaves_no_thread_behind(method):
    net, calls = make_net(), []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("deep inside")

    net[1].register_forward_hook(fail)
    before = threading.active_count()
    with pytest.raises(KeyError, match="deep inside"):
        explain(net, make_video(B=3), 0, method=method, batch_size=2)
    assert threading.active_count() == before
    assert all(module.training for module in net.modules())
    with pytest.raises(ArithmeticError, match="in the flow"):
        explain(
            net, make_video(), 0, method=method, flow=lambda _: (_ for _ in ()).throw(ArithmeticError("in the flow"))
        )
    assert threading.active_count() == before
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(("method", "samples"), [("aosa", 0), ("aosa", 2), ("aosa-approx", 0), ("aosa-path", 0)])
def test_progress_goes_up_to_the_end(method, samples):
    seen = []
    options = {"fill": "conditional", "samples": samples} if samples else {}
    explain(
        make_net(), make_video(B=3), 0, method=method, batch_size=2, progress=lambda *step: seen.append(step), **options
    )
    done, count = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert len(set(count)) == 1
    assert done[-1] == count[0]
    assert done[0] < count[0]


def test_explains_under_inference_mode():
    net, outside = make_net(), make_video()
    with torch.inference_mode():
        for method in ("aosa", "aosa-approx", "aosa-path"):
            inside = explain(net, make_video(), 1, method=method)
            assert torch.equal(inside.saliency, explain(net, outside, 1, method=method).saliency)


def test_a_numpy_index_is_an_index():
    assert torch.equal(
        explain(make_net(), make_video(), np.int64(2)).scores, explain(make_net(), make_video(), 2).scores
    )


def test_logits_that_are_a_view_of_the_input():
    def view(video: torch.Tensor) -> torch.Tensor:
        return video[:, 0, 3, 8, 4:9]

    options = {"method": "aosa", "score": "logit", "batch_size": 2}
    found = explain(view, make_video(), 1, **options).scores
    assert torch.equal(found, explain(lambda video: view(video).clone(), make_video(), 1, **options).scores)
    assert found.abs().max() > 0
