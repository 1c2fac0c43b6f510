"""What is said below the table: of controls, of networks with random weights, and of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aosa_fast.evaluation.ranks import rank_markdown
from aosa_fast.evaluation.table import summarise
from aosa_fast.evaluation.verdicts import compare_with_controls


def made(clips: int = 12, **methods: dict[str, float]) -> list[dict[str, Any]]:
    """Rows with these means, on clips that are of one difficulty for all methods."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.3, clips)
    return [
        {"clip": str(c), "method": method, **{key: mean + hard[c] + rng.normal(0, 0.01) for key, mean in own.items()}}
        for method, own in methods.items()
        for c in range(clips)
    ]


def hits(rows: list[dict[str, Any]], **methods: tuple[float, float | None]) -> list[dict[str, Any]]:
    """Adds of 16 frames of each clip those that are hit, and those with all weights random."""
    noise = np.random.default_rng(1).normal(0, 0.2, len(rows))
    for row, error in zip(rows, noise, strict=True):
        trained, random = methods[row["method"]]
        row |= {"spt_hits": 16 * trained + error, "spt_frames": 16}
        if random is not None:
            row |= {"random_hits": 16 * random + error, "random_frames": 16}
    return rows


def test_a_method_must_be_above_every_control():
    rows = made(
        good={"overall_fill": 0.6, "energy": 0.6},
        low={"overall_fill": 0.4, "energy": 0.6},
        centre={"overall_fill": 0.5, "energy": 0.1},
        random={"overall_fill": 0.1, "energy": 0.2},
    )
    text = compare_with_controls(rows, ["good", "low", "centre", "random"])
    assert text.splitlines() == [
        "## Against the controls, which know nothing of the model",
        "",
        "- Over-all (fill): not distinguishably above every control (centre, random): low. "
        "Such a method shows nothing about the model there.",
        "- Energy: every method is distinguishably above every control (centre, random).",
    ]


def test_few_clips_and_equal_means_are_not_above():
    few = compare_with_controls(made(5, good={"energy": 0.9}, random={"energy": 0.1}), ["good", "random"])
    assert "not distinguishably above every control (random): good" in few
    same = compare_with_controls(made(good={"energy": 0.5}, random={"energy": 0.5}), ["good", "random"])
    assert "not distinguishably above every control (random): good" in same


def test_without_controls_nothing_is_known():
    text = compare_with_controls(made(good={"energy": 0.9}), ["good"])
    assert "No control was run (random, centre" in text
    assert "Energy" not in text
    rows = made(good={"energy": 0.9, "overall": 0.5}, random={"overall": 0.1})
    text = compare_with_controls(rows, ["good", "random"])
    assert "- Energy: no control has a value" in text
    assert "- Over-all (blur): every method is" in text


def test_methods_that_point_with_random_weights_are_told():
    names = {name: {"energy": 0.5} for name in ("gradient", "flow", "osa", "random")}
    rows = hits(made(**names), gradient=(0.9, 0.1), flow=(0.8, 0.6), osa=(0.9, None), random=(0.2, None))
    text = compare_with_controls(rows, [*names])
    assert text.endswith(
        "With all weights random these still point at the boxes, better than random: flow. "
        "So far their pointing is the clip's, not the model's."
    )
    assert "all weights random" not in compare_with_controls(rows, ["gradient", "osa", "random"])
    assert "all weights random" not in compare_with_controls(rows, ["flow", "osa"])


def test_ranks_by_hand():
    keys = ("overall_fill", "overall", "energy")
    means = {"a": (0.9, 0.5, 0.7), "b": (0.8, 0.6, 0.7), "c": (0.1, 0.2, 0.3), "random": (1.0, 1.0, 1.0)}
    rows = [{"clip": "1", "method": method, **dict(zip(keys, own, strict=True))} for method, own in means.items()] + [
        {"clip": "1", "method": "partly", "overall": 1.0}
    ]
    text = rank_markdown(summarise(rows, [*means, "partly"]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert cells[0] == ["method", "Over-all (fill)", "Over-all (blur)", "Energy", "mean"]
    assert cells[2:] == [["a", "1", "2", "1.5", "1.5"], ["b", "2", "1", "1.5", "1.5"], ["c", "3", "3", "3", "3.0"]]
    # Rank sums 4.5, 4.5 and 9, 3 * 1.5**2 + ... = 13.5 about their mean 6; one pair of ties: 6 less.
    assert f"Kendall's W: {12 * 13.5 / (9 * 24 - 3 * 6):.2f} " in text
    assert "First is a in Over-all (fill); b in Over-all (blur); a and b in Energy." in text


@pytest.mark.parametrize("methods", [["a"], ["a", "random"], ["a", "partly"]])
def test_no_ranks_of_one_method(methods):
    rows = made(a={"energy": 0.5, "overall": 0.2}, random={"energy": 0.1, "overall": 0.1}, partly={"energy": 0.4})
    assert rank_markdown(summarise(rows, methods)) == ""


def test_one_method_may_be_first_everywhere():
    rows = made(a={"energy": 0.5, "overall": 0.9}, b={"energy": 0.4, "overall": 0.1})
    text = rank_markdown(summarise(rows, ["a", "b"]))
    assert "Kendall's W: 1.00" in text
    assert text.endswith("First in every column: a.")
