"""Methods of other packages and of users: entry points, captum:NAME and python:PACKAGE.MODULE:FUNCTION."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from foreign_packages import installed

from aosa_fast import Config, Difference, InputError, explain, list_methods
from small_nets import make_net, make_video

MINE = """
import torch
from aosa_fast.inference.call import call_model
from aosa_fast.methods.registry import Method, Option

def shares(model, clips, index):
    return clips.abs() * index.reshape(-1, 1, 1, 1, 1)

def three(model, clips, index):
    return 3

def fails(model, clips, index):
    raise RuntimeError("of two\\nlines")

def steady(model, video, config, resolve):
    logits = call_model(model, video.clone())
    targets = resolve(logits)
    return logits, targets, [torch.full_like(video[:, 0], config.level) for _ in targets]

LEVEL = Option("level", 2.0, "How high.", float, least=0)
METHOD = Method("steady", "The same everywhere.", "others_methods:steady", "level", options=(LEVEL,))
"""
POINTS = "[aosa_fast.methods]\nsteady = others_methods:METHOD\nbroken = others_methods:NOTHING\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package beside ours, with a method, a broken one, and functions."""
    with installed(tmp_path, monkeypatch, "others_methods", MINE, POINTS):
        yield


@pytest.mark.parametrize(
    ("name", "ours"),
    [("Saliency", "gradient"), ("InputXGradient", "input-x-gradient"), ("IntegratedGradients", "integrated-gradients")],
)
def test_captums_attributions_are_methods(name, ours):
    net, video = make_net(), make_video(B=2)
    theirs = explain(net, video, [1, 2], method=f"captum:{name}", batch_size=1)
    for one, own in zip(theirs, explain(net, video, [1, 2], method=ours), strict=True):
        torch.testing.assert_close(one.saliency, own.saliency, rtol=1e-4, atol=1e-9)
        assert one.config.unit == own.config.unit


def test_captums_windows_and_baselines_are_those_of_the_config():
    net, video = make_net(), make_video()
    coarse = explain(net, video, 1, method="captum:Occlusion", box=16, stride=16, cuboid_frames=2)
    assert len(coarse.saliency[0].unique()) <= 2 * 6 * 3
    assert coarse.config.unit == "drop of the probability, summed over channels"
    assert explain(net, video, 1, method="captum:GradientShap").config.unit.startswith(
        "as captum's GradientShap has it"
    )


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        ("captum:Nope", 0, "method must be captum:NAME, NAME a class of captum.attr; got captum:Nope"),
        (
            "captum:LayerGradCam",
            0,
            "method=captum:LayerGradCam must be a class of captum that needs a function",
        ),
        ("captum:Saliency", Difference(0, 1), "target must be a class, not a difference, for method=captum:Saliency"),
        ("captum:", 0, "method must be one of aosa-approx, "),
        (
            "python:nowhere:f",
            0,
            "method=python:nowhere:f must be an importable function; it raised ModuleNot",
        ),
        (
            "python:others_methods:three",
            0,
            r"method=python:others_methods:three: the map must be \(1, 4, 32, 40\) or .*; got int",
        ),
        (
            "python:others_methods:fails",
            0,
            "must be a function that works on these clips; it raised RuntimeError: of two lines",
        ),
        ("broken", 0, "method=broken must be an importable Method, others_methods:NOTHING; it raised AttributeError: "),
    ],
)
def test_what_is_wrong_with_them_is_said_in_one_line(mine, method, target, message):
    with pytest.raises(InputError, match=message) as caught:
        explain(make_net(), make_video(), target, method=method)
    assert "\n" not in str(caught.value)


def test_a_users_function_is_a_method(mine):
    video = make_video(B=2)
    found = explain(make_net(), video, torch.tensor([1, 3]), method="python:others_methods:shares", batch_size=1)
    torch.testing.assert_close(found.saliency, video.abs().sum(1) * torch.tensor([1, 3]).reshape(-1, 1, 1, 1))
    assert found.scores.shape == (2, 0)


def test_a_package_brings_a_method_with_options(mine):
    assert list_methods()[-2:] == ["steady", "broken"]
    found = explain(make_net(), make_video(), 0, method="steady")
    assert found.saliency.unique().tolist() == [2.0]
    assert explain(make_net(), make_video(), 0, method="steady", level=0.5).saliency.unique().tolist() == [0.5]
    assert (found.config.unit, found.metadata["config"]["level"]) == ("level", 2.0)
    with pytest.raises(InputError, match=r"^level must be at least 0; got -1$"):
        Config(method="steady", level=-1)
