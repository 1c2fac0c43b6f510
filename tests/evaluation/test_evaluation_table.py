from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import interval, rate_interval
from aosa_fast.evaluation.measured import COLUMNS
from aosa_fast.evaluation.table import Summary, markdown_table, paired_markdown, summarise


def made(methods: dict[str, float], clips: int = 12) -> list[dict[str, Any]]:
    """Rows of methods with the given quality, on clips of which every third has no boxes."""
    rng = np.random.default_rng(0)
    rows = []
    for c in range(clips):
        hard = rng.random() / 10
        for method, quality in methods.items():
            row = {"clip": f"clip {c}", "label": c % 2, "method": method, "status": "ok", "seconds": 1 - quality}
            row |= {"deletion": 0.5 - quality / 2 + hard, "insertion_fill": 0.5 + quality / 2 - hard}
            row["overall_fill"] = row["insertion_fill"] - row["deletion"] + rng.normal(0, 0.01)
            if c % 3:
                row |= {"spt_hits": quality * (c + 1), "spt_frames": c + 1, "energy": quality, "energy_chance": 0.1}
            rows.append(row)
    return rows


def grid(markdown: str) -> dict[str, dict[str, str]]:
    """The cells of a Markdown table by row and heading."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len({len(line) for line in cells}) == 1
    assert all(set(cell) <= set("-: ") for cell in cells[1])
    return {line[0]: dict(zip(cells[0], line, strict=True)) for line in cells[2:]}


def test_each_column_is_its_estimate() -> None:
    rows = made({"a": 0.8, "b": 0.3})
    summary = summarise(rows, ["b", "a"], seed=3)[1]
    assert (summary.method, summary.n, summary.missing) == ("a", 12, 0)
    own = sorted((row for row in rows if row["method"] == "a"), key=lambda row: row["clip"])
    for key in ("deletion", "insertion_fill", "overall_fill", "seconds"):
        assert summary.estimates[key] == interval([row[key] for row in own], seed=3)
    boxed = [row for row in own if "spt_hits" in row]
    hits, frames = ([row[key] for row in boxed] for key in ("spt_hits", "spt_frames"))
    assert summary.estimates["spt_micro"] == rate_interval(hits, frames, seed=3)
    assert summary.estimates["spt_macro"] == rate_interval(hits, frames, [row["label"] for row in boxed], seed=3)
    assert summary.estimates["energy"].n == 8
    assert summary.estimates["energy"].mean == pytest.approx(0.8)
    assert summary.estimates["iou"].n == 0


def test_micro_and_macro_by_hand() -> None:
    rows = [
        {"clip": "1", "method": "a", "label": 0, "spt_hits": 1.0, "spt_frames": 2},
        {"clip": "2", "method": "a", "label": 0, "spt_hits": 6.0, "spt_frames": 6},
        {"clip": "3", "method": "a", "label": 1, "spt_hits": 0.5, "spt_frames": 1},
        {"clip": "4", "method": "a", "label": None, "spt_hits": 0.0, "spt_frames": 3},
        {"clip": "5", "method": "a", "label": 2, "spt_hits": 0.0, "spt_frames": 0},
    ]
    estimates = summarise(rows, ["a"])[0].estimates
    assert estimates["spt_micro"].mean == pytest.approx(7.5 / 12)
    assert estimates["spt_micro"].n == 4
    assert estimates["spt_macro"].mean == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert estimates["spt_macro"].n == 3


def test_missing_clips_are_counted_and_their_rows_not_used() -> None:
    rows = made({"a": 0.8, "b": 0.3})
    rows[0] |= {"status": "error", "deletion": 99.0}
    del rows[2]
    del rows[5]["deletion"]
    rows[7] |= {"deletion": None, "overall_fill": math.nan}
    a, b, c = summarise(rows, ["a", "b", "c"])
    assert (a.n, a.missing, b.n, b.missing, c.n, c.missing) == (10, 2, 12, 0, 0, 12)
    assert a.estimates["deletion"].n + 2 == a.n == a.estimates["overall_fill"].n + 1
    assert a.estimates["deletion"].mean < 1
    found = grid(markdown_table([a, b, c]))
    assert [found[name]["n"] for name in "abc"] == ["10 of 12", "12", "0 of 12"]
    assert found["c"]["Deletion ↓"] == "-"


def test_order_of_rows_is_no_matter_and_the_later_of_two_holds() -> None:
    rows = made({"a": 0.8, "b": 0.3})
    mixed = [*rows]
    random.Random(1).shuffle(mixed)
    assert summarise(mixed, ["a", "b"]) == summarise(rows, ["a", "b"])
    again = [{**rows[0], "deletion": 7.0}, *rows]
    assert summarise(again, ["a"]) == summarise(rows, ["a"])
    failed = [*rows, {**rows[0], "status": "error"}]
    assert (summarise(failed, ["a"])[0].n, summarise(failed, ["a"])[0].missing) == (11, 1)


def test_best_is_bold_and_second_underlined_whichever_way_is_better() -> None:
    rows = made({"random": 0.99, "low": 0.2, "high": 0.9, "centre": 0.95, "middle": 0.5, "centre:radius=3": 0.97})
    methods = ["random", "low", "high", "centre", "middle", "centre:radius=3"]
    markdown = markdown_table(summarise(rows, methods))
    found = grid(markdown)
    assert list(found) == ["low", "high", "middle", "random", "centre", "centre:radius=3"]
    for heading in ("Deletion ↓", "Insertion (fill) ↑", "Over-all (fill) ↑", "S-PT (micro) ↑", "S-PT (macro) ↑"):
        cells = {name: row[heading] for name, row in found.items()}
        assert cells["high"].startswith("**")
        assert cells["high"].endswith("**")
        assert cells["middle"].startswith("<u>")
        assert cells["middle"].endswith("</u>")
        assert not any(mark in cells[name] for name in ("low", "random", "centre") for mark in ("*", "<"))
    assert found["high"]["s/clip ↓"].startswith("**0.100")
    assert found["middle"]["s/clip ↓"].startswith("<u>0.500")
    assert found["high"]["Energy ↑"] == "**0.900 ± 0.000**"
    assert "Insertion (blur) ↑" not in found["low"]
    assert "IoU ↑" not in found["low"]
    assert "Energy by chance" not in found["low"]
    assert "On the clips that have it only: S-PT (micro) 8, S-PT (macro) 8, Energy 8." in markdown


def test_ties_by_the_printed_digits() -> None:
    cases = {
        (0.5, 0.50004, 0.3): ["**0.500**", "**0.500**", "0.300"],
        (0.5, 0.3, 0.3): ["**0.500**", "<u>0.300</u>", "<u>0.300</u>"],
        (0.5, 0.5, 0.5): ["0.500", "0.500", "0.500"],
        (0.5,): ["0.500"],
        (-0.2, -0.1): ["<u>-0.200</u>", "**-0.100**"],
        (0.0, -0.00001): ["0.000", "0.000"],
    }
    for values, expected in cases.items():
        rows = [{"clip": "1", "method": f"m{i}", "iou": value} for i, value in enumerate(values)]
        found = grid(markdown_table(summarise(rows, [f"m{i}" for i in range(len(values))])))
        assert [row["IoU ↑"] for row in found.values()] == expected


def test_a_method_on_few_of_the_clips_is_not_the_best() -> None:
    rows = made({"a": 0.5, "b": 0.3, "step": 0.9}, clips=20)
    some = [row for row in rows if row["method"] != "step" or int(row["clip"].split()[1]) < 5]
    assert grid(markdown_table(summarise(rows, ["a", "b", "step"])))["step"]["Deletion ↓"].startswith("**")
    found = grid(markdown_table(summarise(some, ["a", "b", "step"])))
    assert "*" not in found["step"]["Deletion ↓"]
    assert found["step"]["n"] == "5 of 20"
    assert found["a"]["Deletion ↓"].startswith("**")


def test_names_do_not_break_the_table() -> None:
    markdown = markdown_table(summarise([{"clip": "1", "method": "a|b\nc", "iou": 0.5}], ["a|b\nc"]))
    assert markdown.splitlines()[2].startswith(r"| a\|b c |")
    assert markdown_table([]).count("\n") == 2


def test_paired_differences_on_common_clips() -> None:
    rows = made({"a": 0.8, "random": 0.0, "b": 0.5, "same": 0.5}, clips=20)
    rows = [row for row in rows if row["method"] != "b" or row["clip"] not in ("clip 3", "clip 7")]
    markdown = paired_markdown(rows, ["random", "a", "b", "same"], ["b", "a"], seed=1)
    found = grid(markdown)
    assert list(found) == ["a", "b", "same", "random"]
    assert [*found["a"]] == ["method", "b", "a"]
    by = {(row["clip"], row["method"]): row["overall_fill"] for row in rows}
    common = sorted(clip for clip, method in by if method == "b")
    expected = interval([by[c, "a"] - by[c, "b"] for c in common], seed=1)
    assert found["a"]["b"] == f"**{expected.text(3, sign=True)}** (n = 18)"
    assert found["b"]["a"] == f"**-{expected.text(3)}** (n = 18)"
    assert float(found["random"]["a"].strip("*").split()[0]) == pytest.approx(-0.8, abs=0.01)
    assert found["random"]["a"].endswith("**")
    assert found["a"]["a"] == found["b"]["b"] == ""
    assert "*" not in found["same"]["b"]
    assert "Over-all (fill): the row's method less the column's, on 20 clips" in markdown


def test_paired_rates_count_frames_and_classes() -> None:
    rows = made({"a": 0.8, "b": 0.3})
    for column in ("spt_micro", "spt_macro"):
        cell = grid(paired_markdown(rows, ["a"], ["b"], column))["a"]["b"]
        assert cell == "**+0.500 ± 0.000**"
    # Clips that were measured on other frames are no pairs.
    rows[2]["spt_frames"] += 1
    assert "on 7 clips" in paired_markdown(rows, ["a"], ["b"], "spt_micro")
    assert "on 12 clips" in paired_markdown(rows, ["a"], ["b"], "seconds")


def test_few_pairs_claim_nothing() -> None:
    rows = made({"a": 0.8, "b": 0.3}, clips=5)
    assert "**" not in paired_markdown(rows, ["a"], ["b"])
    assert grid(paired_markdown(rows, ["a"], ["nothing"]))["a"]["nothing"] == "-"


BAD = {
    "text": ({"deletion": "low"}, "deletion must be a finite number; got 'low' for clip 0, a"),
    "infinite": ({"seconds": math.inf}, "seconds must be a finite number; got inf for clip 0, a"),
    "no clip": ({"clip": None}, "rows must name clip and method; got None and 'a'"),
    "no method": ({"method": None}, "rows must name clip and method; got 'clip 0' and None"),
    "frames": ({"spt_hits": 1.0, "spt_frames": -2}, "must be at least 0; got -2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(case: str) -> None:
    changes, message = BAD[case]
    rows = made({"a": 0.5})
    rows[0] |= changes
    with pytest.raises(InputError) as caught:
        summarise(rows, ["a"])
    assert message in str(caught.value)


def test_summaries_have_every_column() -> None:
    (summary,) = summarise([], ["a"])
    assert isinstance(summary, Summary)
    assert [*summary.estimates] == [*COLUMNS]
    assert grid(markdown_table([summary])) == {"a": {"method": "a", "n": "0"}}
