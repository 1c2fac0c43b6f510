from __future__ import annotations

import pytest
import torch

from aosa_fast import Difference, InputError
from aosa_fast.targets import PerClip, ResolvedTarget, class_scores, resolve_target

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, -1.0]])
NAMES = ("Archery", "archery", "Bowling")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (2, [2, 2]),
        (0, [0, 0]),
        ("pred", [1, 0]),
        ("2", [2, 2]),
        (torch.tensor([2, 1]), [2, 1]),
        (torch.tensor(1), [1, 1]),
        (PerClip((2, "pred")), [2, 0]),
        (PerClip(("Bowling", "1")), [2, 1]),
        (torch.tensor([0, 2], dtype=torch.uint8), [0, 2]),
        ("Bowling", [2, 2]),
        ("BOWLING", [2, 2]),
        ("archery", [1, 1]),
        ("Archery", [0, 0]),
    ],
    ids=str,
)
def test_every_way_to_name_a_class(target, expected):
    resolved = resolve_target(target, LOGITS, NAMES)
    assert resolved.index.tolist() == expected
    assert resolved.index.dtype == torch.int64
    assert resolved.minus is None


def test_a_difference_has_two():
    resolved = resolve_target(Difference("pred", torch.tensor([0, 2])), LOGITS, NAMES)
    assert resolved.index.tolist() == [1, 0]
    assert resolved.minus is not None
    assert resolved.minus.tolist() == [0, 2]
    assert resolved.names(NAMES) == ["archery - Archery", "Archery - Bowling"]
    assert resolved.names(None) == ["class 1 - class 0", "class 0 - class 2"]
    torch.testing.assert_close(resolved.pick(LOGITS), torch.tensor([2.0, 6.0]))
    one = resolved.clips(1, 2)
    assert (one.index.tolist(), one.minus.tolist()) == ([0], [2])


def test_pick_keeps_the_axes_between():
    scores = torch.arange(24.0).reshape(2, 4, 3)
    picked = ResolvedTarget(torch.tensor([2, 0])).pick(scores)
    assert torch.equal(picked, torch.stack([scores[0, :, 2], scores[1, :, 0]]))


def test_scores_by_hand():
    torch.testing.assert_close(class_scores(LOGITS, "prob").sum(-1), torch.ones(2))
    torch.testing.assert_close(class_scores(LOGITS, "prob")[0, 1], LOGITS[0].exp()[1] / LOGITS[0].exp().sum())
    torch.testing.assert_close(class_scores(LOGITS, "logprob"), class_scores(LOGITS, "prob").log())
    assert torch.equal(class_scores(LOGITS, "logit"), LOGITS)
    torch.testing.assert_close(class_scores(LOGITS, "sigmoid"), 1 / (1 + (-LOGITS).exp()))
    expected = torch.tensor([[-2.0, 1.0, -1.0], [5.0, -5.0, -6.0]])
    assert torch.equal(class_scores(LOGITS, "margin"), expected)
    assert torch.equal(class_scores(LOGITS[:, None], "margin"), expected[:, None])


def test_margin_of_a_tie_is_zero_for_both():
    assert class_scores(torch.tensor([[2.0, 2.0, 1.0]]), "margin").tolist() == [[0.0, 0.0, -1.0]]


@pytest.mark.parametrize(
    ("target", "names", "message"),
    [
        (3, None, "target must be a class from 0 to 2; got 3"),
        (-1, None, "target must be a class from 0 to 2; got -1"),
        ("-1", None, "target must be a class from 0 to 2; got -1"),
        (10**30, None, "target must be a class from 0 to 2; got 1000000000000000000000000000000"),
        ("9" * 30, None, "target must be a class from 0 to 2; got 999999999999999999999999999999"),
        (torch.tensor([0, 7]), None, "target must be a class from 0 to 2; got 7"),
        (Difference(0, 5), None, "target must be a class from 0 to 2; got 5"),
        ("x", None, "target must be an index, as this model has no class names; got x"),
        ("--1", None, "target must be an index, as this model has no class names; got --1"),
        ("²", None, "target must be an index, as this model has no class names; got ²"),
        ("", NAMES, "target must be an index or one of Archery, archery, Bowling; got "),
        ("Archary", NAMES, "target must be an index or one of Archery, archery, Bowling; got Archary (did you mean "),
        ("a", ("a", "b", "a"), "target must be an index where several classes have the name, here [0, 2]; got a"),
        (torch.tensor([0.0, 1.0]), None, "target must be integer class indices; got torch.float32"),
        (torch.tensor([True, False]), None, "target must be integer class indices; got torch.bool"),
        (torch.tensor([1j, 1]), None, "target must be integer class indices; got torch.complex64"),
        (torch.tensor([0, 1, 2]), None, "target must have one class per clip, B=2; got shape (3,)"),
        (torch.tensor([[0, 1]]), None, "target must have one class per clip, B=2; got shape (1, 2)"),
        (PerClip((0,)), None, "target must have one class per clip, B=2; got 1"),
        (PerClip((0, 7)), None, "target must be a class from 0 to 2; got 7"),
        (True, None, "target must be an index, a name, 'pred', a tensor or a Difference; got True"),
        (1.5, None, "target must be an index, a name, 'pred', a tensor or a Difference; got 1.5"),
        (None, None, "target must be an index, a name, 'pred', a tensor or a Difference; got None"),
        (
            Difference(Difference(0, 1), 2),
            None,
            "target must be an index, a name, 'pred', a tensor or a Difference; got",
        ),
    ],
    ids=str,
)
def test_bad_targets_get_one_line(target, names, message):
    with pytest.raises(InputError) as caught:
        resolve_target(target, LOGITS, names)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_long_list_of_names_is_cut():
    with pytest.raises(InputError, match=r"one of name 0, .*, name 11, \.\.\.; got nothing like it$"):
        resolve_target("nothing like it", torch.zeros(1, 400), [f"name {i}" for i in range(400)])


@pytest.mark.parametrize("score", ["prob", "logprob", "margin"])
def test_some_scores_need_two_classes(score):
    with pytest.raises(InputError, match=f"^score={score} must have at least two classes; got a model with one: use"):
        class_scores(torch.zeros(1, 1), score)
