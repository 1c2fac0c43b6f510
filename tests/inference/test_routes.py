"""Ways to run a model: the same answers and gradients as the model itself, in whatever layout and batch."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aosa_fast import Config, Explainer, InputError, explain
from aosa_fast.config import ROUTES
from aosa_fast.errors import ModelError, ModelWarning
from aosa_fast.inference.graphs import Graphed
from aosa_fast.inference.routes import Route, route_name
from small_nets import make_net, make_video


class Convolution(nn.Module):
    def __init__(self, channels: int, kernel: tuple[int, ...], **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(channels, 4, kernel, **options)

    def forward(self, video: Tensor) -> Tensor:
        return self.layer(video)


def answer_and_gradient(layer: nn.Module, video: Tensor, route: Route | None) -> tuple[Tensor, Tensor]:
    leaf = video.clone().requires_grad_()
    if route is None:
        out = layer(leaf)
        (grad,) = torch.autograd.grad(out, leaf, torch.cos(torch.arange(out.numel()).to(out)).reshape(out.shape))
    else:
        with route.mode():
            out = route.network(leaf)
            (grad,) = torch.autograd.grad(out, leaf, torch.cos(torch.arange(out.numel()).to(out)).reshape(out.shape))
    return out.detach(), grad


KERNELS = [(3, (7, 5, 3)), (3, (1, 1, 1)), (8, (3, 3, 3)), (8, (2, 4, 4))]
STEPS = [(stride, padding) for stride in (1, (1, 2, 2), (3, 1, 2)) for padding in (0, (0, 2, 1), (1, 3, 3))]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding"),
    [(*kernel, *step) for kernel in KERNELS for step in STEPS] + [(*kernel, 1, "same") for kernel in KERNELS[:3]],
)
def test_convolutions_and_their_input_gradients_are_those_of_float64(channels, kernel, stride, padding, keep):
    layer = Convolution(channels, kernel, stride=stride, padding=padding)
    video = torch.randn(2, channels, 7, 9, 10, generator=torch.Generator().manual_seed(1))
    expected = answer_and_gradient(Convolution(channels, kernel, stride=stride, padding=padding).double(),
                                   video.double(), None)  # fmt: skip
    route = Route(layer, "onednn", keep=keep)
    for clips in (video, video[:1], video):  # what is kept serves batches of any size
        for got, wanted in zip(answer_and_gradient(layer, clips, route), expected, strict=True):
            # The gradient's weights depend on the whole batch's size.
            if got.shape == wanted.shape:
                torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2}])
def test_other_convolutions_are_left_to_torch(options):
    layer = Convolution(4, (3, 3, 3), **options)
    video = torch.randn(1, 4, 7, 9, 10)
    for got, plain in zip(
        answer_and_gradient(layer, video, Route(layer, "onednn")), answer_and_gradient(layer, video, None), strict=True
    ):
        assert torch.equal(got, plain)


def test_weights_that_change_are_noticed():
    layer = Convolution(3, (3, 3, 3))
    route, video = Route(layer, "onednn", keep=True), torch.randn(1, 3, 4, 6, 6)
    answer_and_gradient(layer, video, route)
    layer.load_state_dict({name: 2 * values for name, values in layer.state_dict().items()})
    for got, plain in zip(
        answer_and_gradient(layer, video, route), answer_and_gradient(layer, video, None), strict=True
    ):
        torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-5)


def test_other_threads_and_what_comes_after_are_not_concerned(monkeypatch):
    layer, video, seen = Convolution(3, (3, 3, 3)), torch.randn(1, 3, 4, 6, 6), []

    def call() -> None:
        seen.append(layer(video.requires_grad_()).grad_fn.name())

    with Route(layer, "onednn").mode():
        call()
        other = threading.Thread(target=call)
        other.start()
        other.join()
    call()
    assert seen[0] != seen[1] == seen[2] == functional.conv3d(video, layer.layer.weight).grad_fn.name()


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv3d(3, 8, 3, 2), nn.BatchNorm3d(8), nn.ReLU())
        self.body[1].running_mean.normal_()
        self.body[1].running_var.uniform_(0.5, 2)
        self.head = nn.Linear(8, 5)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.body(video).mean((2, 3, 4)))


@pytest.mark.parametrize("method", ["aosa", "aosa-approx", "aosa-path"])
@pytest.mark.parametrize("route", [name for name in ROUTES if name in ("auto", "onednn", "folded")])
def test_maps_are_the_models_own_whatever_the_way(route, method):
    model, layouts = Normalised().train(), []
    model.body[0].register_forward_hook(
        lambda layer, inputs, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last_3d))
    )
    before = {name: values.clone() for name, values in model.state_dict().items()}
    plain, other = (
        explain(model, make_video(), method=method, stride=8, route=name, score="logit") for name in ("as-is", route)
    )
    taken = "as-is" if method == "aosa-approx" else "onednn"  # one pass is not worth the weights' new order
    assert other.config.route == other.metadata["config"]["route"] == (taken if route == "auto" else route)
    assert other.metadata["model"] == "Normalised"
    assert model.training
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    largest = float(plain.saliency.abs().max())
    torch.testing.assert_close(other.saliency, plain.saliency, rtol=0, atol=1e-5 * largest + 1e-7)
    middle = len(layouts) if other.config.route == "as-is" else layouts.index(True)  # first as it is, then oneDNN
    assert not any(layouts[:middle])
    assert all(layouts[middle:])


def test_auto_stays_with_the_model_where_nothing_can_be_gained():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    names = [
        route_name(model, Config(**options), many)
        for model, options, many in (
            (make_net(), {}, True),
            (make_net(), {}, False),
            (make_net(), {"dtype": "bfloat16"}, True),
            (make_net(), {"compat": "authors2022"}, True),
            (linear, {}, True),
            (torch.compile(make_net()), {}, True),
        )
    ]
    assert names == ["onednn", "as-is", "as-is", "as-is", "as-is", "as-is"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "gpu"}, "route must be one of auto, as-is, onednn, folded, compiled, graphed; got gpu"),
        ({"route": "onednn", "compat": "authors2022"}, "compat must come with route=as-is, bit for bit; got onednn"),
        ({"route": "folded", "method": "grad-cam"}, "route must be auto, as-is or onednn for method grad-cam, .*"),
        ({"route": "folded", "backward": "libra"}, "route must be auto, as-is or onednn for backward=libra, .*"),
    ],
)
def test_ways_that_do_not_go_together_with_other_choices(options, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        Config(**options)


def test_ways_for_another_device_say_so():
    with pytest.raises(
        InputError, match=r"^route=graphed must have a torch.nn.Module on a GPU; got one on a CPU: use "
    ):
        explain(make_net(), make_video(), route="graphed")


def test_graphs_have_buffers_of_their_own_and_their_answers_do_not(monkeypatch):
    """With a stand-in for torch's graphs, which writes every answer into the same buffer."""
    captured = []

    def make(function, samples):
        captured.append(samples[0].shape)
        buffer = function(samples[0])

        def replay(video):
            return buffer.copy_(function(video))

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    net, videos = make_net(), [make_video(seed=seed) for seed in range(3)]
    graphed = Graphed(net)
    with torch.no_grad():
        answers = [graphed(video) for video in videos]
        assert all(torch.equal(answer, net(video)) for answer, video in zip(answers, videos, strict=True))
        graphed(torch.cat(videos))
    assert captured == [videos[0].shape, (3, *videos[0].shape[1:])]


def test_a_model_that_cannot_be_captured_is_called_as_it_is(monkeypatch):
    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    net, video = make_net(), make_video()
    graphed = Graphed(net)
    with pytest.warns(
        ModelWarning, match="^the model cannot be captured as a CUDA graph, and is called as it is: Runt"
    ):
        assert torch.equal(graphed(video), net(video))
    assert torch.equal(graphed(torch.cat([video, video])), net(torch.cat([video, video])))  # said once


class Layouts(Normalised):
    """Code that needs its tensors in their usual layout: a view, and a demand."""

    def __init__(self, demands: bool) -> None:
        super().__init__()
        self.demands = demands
        self.head = nn.Linear(8 * 2 * 15 * 19, 5)

    def forward(self, video: Tensor) -> Tensor:
        found = self.body(video)
        if self.demands and not found.is_contiguous():
            raise RuntimeError("found must be contiguous")
        return self.head(found.view(len(found), -1))


@pytest.mark.parametrize("demands", [False, True])
def test_code_that_needs_the_usual_layout_gets_its_answers(demands):
    model = Layouts(demands).eval()
    plain, other = (explain(model, make_video(T=5), route=route, method="aosa-path") for route in ("as-is", "auto"))
    assert other.config.route == ("as-is" if demands else "onednn")
    torch.testing.assert_close(other.saliency, plain.saliency, rtol=1e-4, atol=1e-7)
    with Explainer(model) as explainer:
        explainer.warmup(make_video(T=5))
        assert explainer(make_video(T=5)).config.route in ("as-is", "onednn", "folded")
    if demands:
        with pytest.raises(ModelError, match="found must be contiguous"):
            explain(model, make_video(T=5), route="onednn")


class Branching(Normalised):
    def forward(self, video: Tensor) -> Tensor:
        return super().forward(video) if video.sum() > 0 else super().forward(-video)


def test_a_network_that_cannot_be_copied_says_so_in_a_line():
    with pytest.raises(InputError, match=r"^model .* TraceError: .*use route=as-is \(--route as-is\)") as caught:
        explain(Branching(), make_video(), route="folded")
    assert "\n" not in str(caught.value)
