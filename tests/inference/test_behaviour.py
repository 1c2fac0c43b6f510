from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import small_nets
from aosa_fast import InputError, explain
from aosa_fast.errors import ModelError
from aosa_fast.metrics import causal_metrics, deletion
from small_nets import make_video

METHODS = ("aosa", "aosa-approx", "aosa-path")


make_net = partial(small_nets.make_net, scale=8)


class Ending(nn.Module):
    """A network and what is done with what it returns."""

    def __init__(self, end: Callable[[Tensor], object], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.end = net or make_net(), end

    def forward(self, video: Tensor) -> object:
        return self.end(self.net(video))


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_model_that_applies_softmax_is_found_out_and_can_be_explained(half, method):
    end = (lambda logits: logits.bfloat16().softmax(-1)) if half else softmax
    model, video = Ending(end), make_video(B=2)
    true = make_net()(video).softmax(-1).amax(1)
    with pytest.warns(
        UserWarning, match=r"^the model returns probabilities \(rows in \[0, 1\] that sum .*'logit'"
    ) as w:
        found = explain(model, video, method=method)
    assert len(w) == 1
    assert found.metadata["self_check"]["output"] == "softmax"
    assert found.metadata["probability"] == pytest.approx(true.tolist(), abs=4e-3 if half else 1e-6)
    # What the warning advises: the score is the probability, with its logarithm too.
    as_it_is = explain(model, video, method=method, score="logit")
    torch.testing.assert_close(as_it_is.target.pick(as_it_is.clean_scores), true, rtol=0, atol=4e-3 if half else 1e-6)
    assert as_it_is.metadata["probability"] == found.metadata["probability"]
    if not half:
        torch.testing.assert_close(as_it_is.saliency, explain(make_net(), video, method=method).saliency)
        wrapped = explain(lambda clips: model(clips).log(), video, method=method)
        torch.testing.assert_close(wrapped.saliency, as_it_is.saliency)
    explain(model, video, method=method)  # said once per model


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [1, 2, 30])
def test_a_model_of_several_labels(classes, method):
    net, video = make_net(classes), make_video(B=2)
    expected = net(video).sigmoid()
    found = explain(net, video, 0, method=method, score="sigmoid")
    assert found.metadata["self_check"]["output"] == "logits"
    assert found.metadata["probability"] == pytest.approx(expected[:, 0].tolist())
    torch.testing.assert_close(found.clean_scores, expected)
    model = Ending(torch.sigmoid, net)
    if classes > 1:
        with pytest.warns(UserWarning, match=r"each class on its own.* its last sigmoid, with score='sigmoid'$"):
            assert explain(model, video, 0, method=method).metadata["self_check"]["output"] == "sigmoid"
    same = explain(model, video, 0, method=method, score="logit")
    assert same.metadata["probability"] == pytest.approx(expected[:, 0].tolist())
    torch.testing.assert_close(same.saliency, found.saliency)
    assert found.saliency.abs().max() > 0


@pytest.mark.parametrize(
    "end",
    [
        lambda logits: logits,
        lambda logits: logits * 0.01,
        lambda logits: logits.relu(),
        lambda logits: logits.relu() * 1e-3 + 1e-5,
        lambda logits: logits * 0,
        lambda logits: logits * 0 + torch.linspace(0.2, 0.9, 6),
        lambda logits: logits.log_softmax(-1),
    ],
    ids=["logits", "small", "ReLU", "small ReLU", "zeros", "constants", "log-softmax"],
)
def test_logits_are_taken_for_logits(end):
    assert explain(Ending(end), make_video(), 0).metadata["self_check"]["output"] == "logits"


def test_deletion_of_a_model_that_applies_softmax():
    model, video, saliency = Ending(softmax), make_video(), np.random.default_rng(0).random((4, 32, 40))
    with pytest.warns(UserWarning, match="score=prob takes their softmax once more"):
        curve = deletion(model, video, saliency, "pred")
    assert curve.metadata["probability"] == pytest.approx([float(make_net()(video).detach().softmax(-1).max())])


def with_batch_statistics() -> nn.Sequential:
    net = make_net()
    net.insert(1, nn.BatchNorm3d(8, track_running_stats=False))
    return net


COUPLED = {
    "BatchNorm": (with_batch_statistics, r"^the model's answer depends on its batch \(layer 1 has no running stat"),
    "else": (
        lambda: Ending(lambda logits: logits - logits.mean(0) * 0.5),  # which no layer's type tells
        r"^the model's answer depends on its batch \(another clip beside it changes the answer\)",
    ),
    "reshape": (
        lambda: Ending(lambda logits: logits.reshape(1, 6)),
        r"^the model takes one clip at a time, .*; two at once: RuntimeError: shape '\[1, 6\]' is invalid for",
    ),
    "first": (lambda: Ending(lambda logits: logits[:1]), r"^the model takes one clip at a time, .* B=2; got \(1, 6\)"),
    "squeeze": (lambda: Ending(lambda logits: logits[0]), r"^the model takes one clip at a time, .* B=2; got \(6,\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_must_see_its_clips_one_by_one_does(method, kind):
    make, message = COUPLED[kind]
    model, video = make(), make_video(B=2)
    single = [explain(model, video[b : b + 1], 1, method=method, batch_size=1) for b in range(2)]
    with pytest.warns(UserWarning, match=message) as caught:
        found = explain(model, video, 1, method=method)
    assert len(caught) == 1
    assert found.metadata["config"]["batch_size"] == found.config.batch_size == 1
    for b, alone in enumerate(single):
        assert torch.equal(found.saliency[b], alone.saliency[0])
        assert torch.equal(found.logits[b], alone.logits[0])
    check = found.metadata["self_check"]
    assert check["repeat_difference"] == 0
    assert (check["batch_difference"] or 1) > 1e-3  # None where there is none
    # Metrics ask the same model in batches too.
    causal_metrics(model, video, found.saliency, 1)


@pytest.mark.parametrize("method", METHODS)
def test_one_clip_alone_needs_no_batch(method):
    model = with_batch_statistics()
    options = {"method": method} if method == "aosa-approx" else {"method": method, "batch_size": 1}
    assert explain(model, make_video(), 1, **options).metadata["self_check"]["batch_difference"] is None


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_draws_lots_is_said_to(method):
    torch.manual_seed(3)
    model = Ending(lambda logits: nn.functional.dropout(logits, 0.3))  # which evaluation mode does not turn off
    with pytest.warns(UserWarning, match=r"^the model answers the same clip differently each time, by up to") as caught:
        found = explain(model, make_video(), 1, method=method, score="logit")
    assert len(caught) == 1
    assert found.metadata["self_check"]["repeat_difference"] > 0.1
    assert found.config.batch_size == 0


@pytest.mark.parametrize("method", METHODS)
def test_answers_to_two_clips_are_not_held_against_each_other(method):
    net = make_net()
    with pytest.raises(InputError, match=r"^target must be a class from 0 to 5"):
        explain(net, make_video(), 99)  # when the model has been asked once
    found = [explain(net, make_video(seed=7), 1), explain(net, make_video(seed=8), 1, method=method)]
    found += [explain(net, make_video(B=3, seed=9), 1, method=method)]
    for explanation in found:
        assert explanation.metadata["self_check"]["repeat_difference"] < 1e-5
        assert (explanation.metadata["self_check"]["batch_difference"] or 0) < 1e-5


def test_a_model_that_answers_as_it_should():
    for dtype in (None, "bfloat16"):
        check = explain(make_net(), make_video(B=3), 1, method="aosa", dtype=dtype).metadata["self_check"]
        assert check["repeat_difference"] < (0.05 if dtype else 1e-5)
        assert check["batch_difference"] < (0.05 if dtype else 1e-5)


class AllEqual(Ending):
    """Equal to all others, as it says itself."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class NotComparable:
    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return torch.ones(2) == 1  # true of which?

    def __hash__(self) -> int:
        raise TypeError("no hash")

    def __call__(self, video: Tensor) -> Tensor:
        return make_net()(video)


def test_models_are_told_apart_by_nothing_of_their_own():
    models = [AllEqual(lambda logits: logits), AllEqual(softmax), NotComparable()]
    with pytest.warns(UserWarning, match=r"^the model returns probabilities"):
        found = [explain(model, make_video(), 1).metadata["self_check"]["output"] for model in models]
    assert found == ["logits", "softmax", "logits"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_frozen_script_has_no_training_flag():
    script = torch.jit.freeze(torch.jit.script(make_net()))
    assert (
        explain(script, make_video(), 1).metadata["prediction"]
        == explain(make_net(), make_video()).metadata["prediction"]
    )


def test_nothing_is_remembered_of_a_model_that_is_gone():
    model = make_net()
    explain(model, make_video())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_squeezed_answer_to_the_one_clip_that_there_is():
    model, video = Ending(torch.squeeze), make_video()
    for method in METHODS:
        assert torch.equal(
            explain(model, video, 1, method=method).scores, explain(make_net(), video, 1, method=method).scores
        )


class Wants:
    """Fails in one of the ways of the user's own code."""

    def __init__(self, what: str) -> None:
        self.what, self.net = what, make_net()

    def __call__(self, video: Tensor) -> Tensor:
        if self.what == "layout":
            return self.net(video.transpose(1, 2))  # as if the video were (B, T, C, H, W)
        if self.what == "no gradient":
            return torch.from_numpy(self.net(video).numpy())
        if self.what == "checkpoint":
            return torch.utils.checkpoint.checkpoint(self.net, video, use_reentrant=True)
        if self.what == "exit":
            raise SystemExit(0)
        if self.what == "output":
            return UnreadableError()
        if self.what == "sparse":
            return self.net(video).to_sparse()
        if self.what == "silent":
            raise UnreadableError()
        raise KeyError("deep\ninside")


class UnreadableError(Exception):
    """Neither its text nor its logits can be had."""

    @property
    def logits(self) -> Tensor:
        raise ArithmeticError("no logits")

    def __str__(self) -> str:
        raise ArithmeticError("no text")


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("layout", {}, r"it was given \(B, C, T, H, W\) = \(1, 3, 4, 32, 40\), and must be wrapped .*video.transpose"),
        ("no gradient", {}, r"raised RuntimeError: .*; use method='aosa' \(--method aosa\) if it works without"),
        ("no gradient", {"method": "input-x-gradient"}, r"use method='aosa' .* \(method=input-x-gradient\)$"),
        ("checkpoint", {}, r"raised RuntimeError: .*; set use_reentrant=False in .*, or use method='aosa'"),
        ("checkpoint", {"method": "aosa-path"}, r"set use_reentrant=False .* \(method=aosa-path\)$"),
        ("exit", {}, r"^model must run .*; it raised SystemExit: 0; it was given"),
        (
            "output",
            {},
            r"^model must run .*; it raised ArithmeticError: no logits; it was given",
        ),
        (
            "sparse",
            {},
            r"^model must run .*; it raised NotImplementedError: .*; it was given",
        ),
        ("silent", {}, r"^model must run .*; it raised UnreadableError; it was given"),
        ("error", {}, r"^model must run on the clip without an error; it raised KeyError: .*deep.*inside"),
    ],
)
def test_what_the_models_own_code_raises_is_one_line(what, options, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of checkpoints whose input has no gradient
        with pytest.raises(ModelError, match=message) as caught:
            explain(Wants(what), make_video(), 1, **options)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None
        if what in ("no gradient", "checkpoint"):
            explain(Wants(what), make_video(), 1, method="aosa")


def test_memory_that_runs_out_is_no_fault_of_the_model():
    def full(video: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    with pytest.raises(InputError, match=r"^video must fit the GPU's memory, one clip at a time"):
        explain(full, make_video(), 1)
