from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import interval
from aosa_fast.evaluation.curves import line_styles, mean_lines, plot_curves
from aosa_fast.evaluation.metrics import METRICS

METHODS = ("random", "grad-cam", "aosa", "centre")
DELETION, BLURRED, FILLED = (column for column in METRICS["deletion"].columns if column.kind == "reals")
AT = np.linspace(0, 1, 29)


def made(methods: tuple[str, ...] = METHODS, clips: int = 9) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for c in range(clips):
        for k, method in enumerate(methods):
            fall = np.exp(-AT * (1 + 3 * k) * rng.uniform(0.8, 1.2))
            row: dict[str, Any] = {"clip": f"c{c}", "method": method, "status": "ok"}
            row |= {
                "deletion_curve": fall.tolist(),
                "insertion_curve": None,
                "insertion_fill_curve": (1 - fall).tolist(),
            }
            rows.append(row)
    return rows


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share(image: np.ndarray, color: str) -> float:
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(image.astype(int) - wanted).max(-1) < 8).mean())


def test_lines_are_means_over_clips_with_their_areas() -> None:
    rows = made()
    lines = mean_lines(rows, METHODS, DELETION)
    assert [line.method for line in lines] == ["aosa", "grad-cam", "centre", "random"]
    table = np.array([row["deletion_curve"] for row in rows if row["method"] == "aosa"])
    line = lines[0]
    assert np.allclose(line.mean, table.mean(0))
    assert (line.low[1:] < line.mean[1:]).all()
    assert (line.mean[1:] < line.high[1:]).all()
    areas = [(sum(curve) - (curve[0] + curve[-1]) / 2) / 28 for curve in table]
    expected = interval(areas)
    assert (line.area.mean, line.area.low, line.area.n) == pytest.approx((expected.mean, expected.low, 9))
    assert [line.method for line in mean_lines(rows, METHODS, FILLED)][:2] == ["aosa", "grad-cam"]
    assert [line.method for line in mean_lines(rows, METHODS, replace(FILLED, better=-1))][:2] == ["grad-cam", "aosa"]
    assert mean_lines(rows, METHODS, BLURRED) == []


def test_failed_clips_and_missing_curves_are_left_out() -> None:
    rows = made()
    rows[2] |= {"status": "error", "deletion_curve": None}
    rows[6]["deletion_curve"] = float("nan")  # as pandas reads a missing list
    by = {line.method: line for line in mean_lines(rows, METHODS, DELETION)}
    assert (by["aosa"].area.n, by["random"].area.n) == (7, 9)


def test_picture_has_every_colour_and_a_panel_per_kind_of_curve(tmp_path: Path) -> None:
    rows = made()
    plot_curves(rows, METHODS, tmp_path / "new" / "two.png")
    two = picture(tmp_path / "new" / "two.png")
    for color, _ in line_styles(METHODS).values():
        assert share(two, color) > 0.0005
    assert share(two, "#009e73") == 0
    assert (two[:8] == 255).all()
    assert (two[-8:] == 255).all()
    for row in rows:
        row["insertion_curve"] = row["insertion_fill_curve"]
    plot_curves(rows, METHODS, str(tmp_path / "three.png"))
    one = [{key: value for key, value in row.items() if "insertion" not in key} for row in rows]
    plot_curves(one, METHODS, tmp_path / "one.png")
    widths = [picture(tmp_path / name).shape[1] for name in ("one.png", "three.png")]
    assert widths[0] < two.shape[1] < widths[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one.png", "three.png"]


def test_pictures_are_equal_and_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    before = "matplotlib.pyplot" in sys.modules
    plot_curves(made(), METHODS, path)
    assert ("matplotlib.pyplot" in sys.modules) == before  # its global state is the user's
    first = path.read_bytes()
    plot_curves(made()[::-1], METHODS, path)
    assert path.read_bytes() == first


def test_fourteen_methods_differ_in_colour_or_dashes() -> None:
    methods = ["random", *(f"m{i}" for i in range(14)), "centre:x=1"]
    styles = line_styles(methods)
    assert len({str(style) for style in styles.values()}) == 16
    assert len({color for color, _ in styles.values()}) == 9
    assert styles["random"][1] != "-"
    assert styles["m0"] == line_styles(["m0", "centre"])["m0"]


def test_names_and_values_from_anywhere(tmp_path: Path) -> None:
    names = ("$\\frac{$", "_hidden", "x" * 500, "aosa:fill=mean:relu=none", "line\nbreak")
    rows = made(names, clips=1)
    for row in rows:
        row["deletion_curve"] = [-5.0, 1e6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_curves(rows, names, tmp_path / "a.png")
    assert picture(tmp_path / "a.png").shape[1] < 2000


def test_bad_arguments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made()
    with pytest.raises(InputError, match=r"rows must have curves of osa; got none of deletion_curve"):
        plot_curves(rows, ["osa"], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.pdf: must end in \.png"):
        plot_curves(rows, METHODS, tmp_path / "a.pdf")
    rows[5]["deletion_curve"] = [1.0, 0.5]
    with pytest.raises(
        InputError, match=r"deletion_curve must be .* of one length .* got 2 and 29 values for grad-cam"
    ):
        plot_curves(rows, METHODS, tmp_path / "a.png")
    rows[5]["deletion_curve"] = [np.nan] * 29
    with pytest.raises(InputError, match=r"deletion_curve must be finite"):
        plot_curves(rows, METHODS, tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"it is a folder"):
        plot_curves(made(), METHODS, tmp_path / "folder.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        InputError, match=r"curves must have matplotlib; it is missing: pip install .aosa-fast\[evaluate\].$"
    ):
        plot_curves(made(), METHODS, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
