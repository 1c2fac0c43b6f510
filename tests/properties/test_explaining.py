"""What holds of every map: of linear networks, of batches, of what is saved, and of every way to ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import aosa_fast
from aosa_fast import Config, Difference, Explainer, Explanation, InputError, StreamingExplainer, explain
from aosa_fast.models import Classifier
from drawn import integers
from small_nets import make_net, make_preprocessing

SIDE, T, CLASSES = 12, 3, 3
OURS = {"aosa": aosa_fast.AOSA, "aosa-approx": aosa_fast.AOSAApprox, "aosa-path": aosa_fast.AOSAPath}
choices = st.fixed_dictionaries(
    {"stride": st.sampled_from([4, 5]), "box": st.sampled_from([4, (3, 5)]), "partners": st.integers(0, 2)},
    optional={
        "fill": st.sampled_from(["mean", "black", "conditional"]),
        "aggregate": st.sampled_from(["sum", "mean", "eq2"]),
        "min_motion": st.floats(0, 3, width=32),
        "partners_rule": st.sampled_from(["cosine", "motion-aware"]),
        "reseed": st.integers(0, 2),
        "radius": st.integers(0, 4),
        "steps": st.integers(1, 3),
        "batch_size": st.integers(0, 3),
        "seed": st.integers(0, 9),
    },
)


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * T * SIDE * SIDE, CLASSES)).eval()


@st.composite
def asked(draw: st.DrawFn, clips: int = 2) -> dict[str, Any]:
    """A clip with its flow and pictures, as `explain` takes them."""
    random = draw(st.randoms(use_true_random=False))
    return {
        "video": integers((clips, 3, T, SIDE, SIDE), random) / 4,
        "flow": integers((clips, T - 1, SIDE, SIDE, 2), random) / 4,
        "frames": torch.zeros(clips, T, SIDE, SIDE, 3, dtype=torch.uint8),
        "mean": 0.5,
        "std": 0.25,
    }


def of_clip(given: dict[str, Any], index: int) -> dict[str, Any]:
    return {name: part[index : index + 1] if isinstance(part, Tensor) else part for name, part in given.items()}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * (1 + float(expected.abs().max())))


@given(asked(), choices, st.integers(0, 9))
def test_first_order_is_exact_for_a_linear_score(given_: dict[str, Any], options: dict[str, Any], seed: int) -> None:
    options = {"fill": "mean", **options}
    exact = explain(linear(seed), **given_, target=1, method="aosa", score="logit", **options)
    path = explain(linear(seed), **given_, target=1, method="aosa-path", score="logit", **options)
    close(path.scores, exact.scores)
    close(path.saliency, exact.saliency)


@given(asked(), choices, st.sampled_from(sorted(OURS)), st.integers(0, CLASSES - 1), st.integers(0, 9))
@settings(max_examples=20)
def test_clips_do_not_mix_and_nothing_is_changed(
    given_: dict[str, Any], options: dict[str, Any], method: str, target: int, seed: int
) -> None:
    model, before = linear(seed), {name: part.clone() for name, part in given_.items() if isinstance(part, Tensor)}
    together = explain(model, **given_, target=target, method=method, **options)
    B, _, *size = given_["video"].shape
    assert together.saliency.shape == (B, *size)
    assert torch.isfinite(together.saliency).all()
    assert (together.saliency[together.coverage == 0] == 0).all() or options.get("aggregate") == "eq2"
    for index in range(B):
        alone = explain(model, **of_clip(given_, index), target=target, method=method, **options)
        close(together.clip(index).saliency, alone.saliency)
    assert all(torch.equal(given_[name], part) for name, part in before.items())


@given(asked(), choices, st.sampled_from([*OURS, "aosa-dual"]))
@settings(max_examples=10)
def test_every_way_to_ask_gives_one_map(given_: dict[str, Any], options: dict[str, Any], method: str) -> None:
    if method == "aosa-dual":
        options = {name: options[name] for name in ("stride", "box", "partners")}
    model, config = linear(0), Config(method=method, **options)
    plain = explain(model, **given_, target=2, config=config)
    with Explainer(model, frames=T, size=SIDE, config=config, mean=0.5, std=0.25) as explainer:
        warm = explainer(given_["video"], 2, flow=given_["flow"], frames=given_["frames"])
    assert torch.equal(warm.saliency, plain.saliency)
    rest = {name: part for name, part in given_.items() if name != "video"}
    attributed = {**OURS, "aosa-dual": aosa_fast.AOSADual}[method](model, **options).attribute(
        given_["video"], 2, **rest
    )
    assert torch.equal(attributed, plain.saliency.unsqueeze(1).expand_as(given_["video"]))
    compared = aosa_fast.compare(model, given_["video"], method, 2, config=config, **rest)
    assert isinstance(compared, aosa_fast.Comparison)
    assert torch.equal(compared.explanations[method].saliency, plain.saliency)


@given(asked(clips=1), st.permutations(range(CLASSES)))
@settings(max_examples=10)
def test_a_difference_is_the_difference_of_the_maps(given_: dict[str, Any], order: list[int]) -> None:
    first, second = order[:2]
    options: dict[str, Any] = {"method": "aosa", "score": "logit", "stride": 4, "box": 4}
    one, other, both = explain(linear(3), **given_, target=[first, second, Difference(first, second)], **options)
    close(both.scores, one.scores - other.scores)
    assert torch.equal(one.for_target(second).scores, other.scores)


@given(asked(), choices, st.sampled_from(["aosa", "aosa-approx", "aosa-dual", "centre", "gradient"]))
@settings(max_examples=10)
def test_what_is_saved_is_what_is_loaded(
    tmp_path: Path, given_: dict[str, Any], options: dict[str, Any], method: str
) -> None:
    if method == "aosa-dual":
        options = {name: options[name] for name in ("stride", "box", "partners")}
    before = explain(linear(1), **given_, target="pred", method=method, **options)
    before.save(tmp_path / "explanation.npz")
    after = Explanation.load(tmp_path / "explanation.npz")
    for name in ("saliency", "scores", "tracks", "alive", "boxes", "members", "coverage", "logits"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    assert after.metadata == before.metadata
    assert after.config.as_dict() == before.config.as_dict() | {"flow": after.config.flow}


@given(choices, st.sampled_from(aosa_fast.list_methods()))
def test_choices_survive_as_plain_types(options: dict[str, Any], method: str) -> None:
    config = Config(method=method.replace("NAME", "Saliency").replace("PACKAGE.MODULE:FUNCTION", "a.b:c"), **options)
    assert Config.from_dict(config.as_dict()).as_dict() == config.as_dict()


wrong = st.one_of(
    st.integers(-9, 0).map(lambda value: {"stride": value}),
    st.integers(-9, 0).map(lambda value: {"box": value}),
    st.integers(-9, -1).map(lambda value: {"partners": value}),
    st.floats(max_value=-1e-3, allow_nan=False).map(lambda value: {"min_motion": value}),
    st.text(max_size=8).filter(lambda text: text not in ("sum", "mean", "eq2")).map(lambda value: {"aggregate": value}),
    st.text(max_size=8).filter(lambda text: text not in aosa_fast.list_methods()).map(lambda value: {"method": value}),
    st.sampled_from([{"stride": 2.5}, {"stride": "8"}, {"stride": True}, {"seed": None}, {"min_motion": float("nan")}]),
)


@given(wrong)
@settings(max_examples=60)
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        Config(**options)
    assert "\n" not in str(caught.value)
    assert next(iter(options)) in str(caught.value)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=6)
def test_a_stream_gives_the_maps_of_its_windows(frames: int, hop: int, seed: int) -> None:
    preprocessing = make_preprocessing(frames=frames, crop=(24, 24))
    classifier = Classifier(make_net(), preprocessing)
    pictures = np.random.default_rng(seed).integers(0, 256, (frames + hop, 24, 24, 3), np.uint8)
    with StreamingExplainer(classifier, hop=hop, stride=8, box=9) as stream:
        found = [stream.push(picture) for picture in pictures]
        config = stream.explainer.config
    last = explain(classifier, pictures[-frames:], config=config)
    assert [place for place, map in enumerate(found, 1) if map is not None] == [frames, frames + hop]
    assert found[-1] is not None
    assert torch.equal(found[-1].saliency, last.saliency)
