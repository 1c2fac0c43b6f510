from __future__ import annotations

import numpy as np
import pytest

from aosa_fast.errors import InputError
from aosa_fast.video import contact_sheet, render_overlay
from aosa_fast.video.comparison import _range, comparison_sheet
from aosa_fast.video.drawing import cell_size, color_bar

GREY = 90


def flat(T: int = 6, H: int = 40, W: int = 64) -> np.ndarray:
    """Grey frames; the green tells which one it is."""
    frames = np.full((T, H, W, 3), GREY, np.uint8)
    frames[..., 1] = np.arange(T)[:, None, None] * 20
    return frames


def left_half(value: float, T: int = 6, h: int = 10, w: int = 16) -> np.ndarray:
    saliency = np.zeros((T, h, w), np.float32)
    saliency[:, :, : w // 2] = value
    return saliency


def cells(sheet: np.ndarray, H: int = 40, W: int = 64, rows: int = 2, columns: int = 4) -> np.ndarray:
    """(rows, columns, h, w, 3): the frames on the sheet, found by the place of the first row's grey."""
    h, w = cell_size(H, W, 180 if columns > 4 else 220)
    grey = (sheet[..., 0] == GREY) & (sheet[..., 2] == GREY)
    top, left = np.flatnonzero(grey.sum(1) >= w)[0], np.flatnonzero(grey.sum(0) >= h)[0]
    height = max(h, 124) + 12
    corners = [[(top + r * height, left + c * (w + 6)) for c in range(columns)] for r in range(rows)]
    return np.array([[sheet[y : y + h, x : x + w] for y, x in row] for row in corners])


def test_first_row_is_the_frames_evenly_spread() -> None:
    for T, columns, chosen in ((6, 4, [0, 2, 3, 5]), (16, 4, [0, 5, 10, 15]), (6, 1, [2]), (3, 4, [0, 1, 2])):
        sheet = comparison_sheet(flat(T), [("a", left_half(1, T), "u")], title="t", columns=columns)
        assert sheet.dtype == np.uint8
        found = cells(sheet, columns=len(chosen))[0]
        for cell, t in zip(found, chosen, strict=True):
            assert (cell == np.array([GREY, t * 20 % 256, GREY])).all()


def test_rows_are_overlays_each_by_its_own_largest_value() -> None:
    small, large = left_half(1e-6), left_half(-250.0)
    sheet = comparison_sheet(flat(), [("small", small, "u"), ("large", large, "v")], title="t", columns=6)
    found = cells(sheet, rows=3, columns=6)
    for row, saliency in ((1, small), (2, large)):
        # The overlay of the whole clip is what people see elsewhere: the same colours are used here.
        assert np.array_equal(found[row], render_overlay(found[0], saliency, min_side=1))
        assert (found[row] != found[0]).any()
    assert found[1, 0, 50, 20, 0] > found[1, 0, 50, 20, 2] + 50
    assert found[2, 0, 50, 20, 2] > found[2, 0, 50, 20, 0] + 20
    swapped = comparison_sheet(flat(), [("large", large, "v"), ("small", small, "u")], title="t", columns=6)
    assert np.array_equal(cells(swapped, rows=3, columns=6)[2], found[1])


def test_the_scale_is_of_the_whole_clip_not_of_the_frames_shown() -> None:
    saliency = left_half(1.0)
    saliency[1] *= 4  # not among the four of six that are shown
    found = cells(comparison_sheet(flat(), [("a", saliency, "u")], title="t"))
    shown = [0, 2, 3, 5]
    assert np.array_equal(found[1], render_overlay(found[0], saliency[shown], limit=4.0, min_side=1))


def test_maps_without_colour_leave_the_frames() -> None:
    maps = [("zero", left_half(0), "u"), ("constant", left_half(0) + 0.3, "u")]
    found = cells(comparison_sheet(flat(), maps, title="t"), rows=3)
    assert np.array_equal(found[1], found[0])
    assert np.array_equal(found[2], found[0])


def test_boxes_are_outlined_in_pixels_of_the_maps_and_only_in_the_overlays() -> None:
    one = np.tile(np.array([[4, 2, 8, 6]], np.int32), (6, 1))
    two = np.stack([one, np.tile(np.array([[0, 0, 0, 0]], np.int32), (6, 1)), one + 6], axis=1)
    maps = [("zero", left_half(0), "u")]
    h, w = cell_size(40, 64, 220)
    found = cells(comparison_sheet(flat(), maps, title="t", boxes=one))
    assert (found[0] == cells(comparison_sheet(flat(), maps, title="t"))[0]).all()
    white = (found[1, 2] == 255).all(-1)
    rows, columns = np.nonzero(white)
    expected = (round(4 * w / 16), round(8 * w / 16) - 1, round(2 * h / 10), round(6 * h / 10) - 1)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == expected
    both = cells(comparison_sheet(flat(), maps, title="t", boxes=two))[1, 2]
    assert np.array_equal(both[: round(6 * h / 10)], found[1, 2][: round(6 * h / 10)])
    assert (both[round(8 * h / 10) :] == 255).all(-1).any()
    none = comparison_sheet(flat(), maps, title="t", boxes=np.zeros((6, 0, 4), np.int32))
    assert np.array_equal(cells(none)[1], found[0])


def test_range_is_written_with_two_digits_of_the_larger() -> None:
    assert _range(-0.0111, 0.1234) == ("-0.01", "+0.12")
    assert _range(3.6e-14, 0.1234) == ("0", "+0.12")
    assert _range(-56.2, 7.9) == ("-56", "+8")
    assert _range(-2.5e-7, 3.24e-5) == ("0", "+3.2e-5")
    assert _range(-1.3e6, 3.24e5) == ("-1.3e6", "+0.3e6")
    assert _range(0.0, 0.0) == ("0", "0")
    assert _range(-0.3, -0.3) == ("-0.30", "-0.30")


@pytest.mark.parametrize(
    "name", ["", "x" * 100_000, "two\nlines\tand \x00\x1b[31m", "half of a pair \udc80", "<b>$x_1|"]
)
def test_texts_from_anywhere_are_cut_and_change_no_frame(name: str) -> None:
    plain = comparison_sheet(flat(), [("a", left_half(1), "u")], title="t")
    sheet = comparison_sheet(flat(), [(name, left_half(1), name * 3)], title=name)
    assert sheet.shape == plain.shape
    assert np.array_equal(cells(sheet), cells(plain))
    # Nothing is written into the frames, the gap before them, or the margin at the right.
    assert (sheet[60:-60, 22 + 196 : 22 + 214] == 255).all()
    assert (sheet[:, -20:] == 255).all()


def test_any_shape_of_frame_and_values() -> None:
    for H, W in ((1, 1), (8, 400), (400, 8), (64, 48)):
        for value in (1e-30, -1e30):
            sheet = comparison_sheet(flat(3, H, W), [("a", left_half(value, 3), "u")] * 2, title="t", columns=16)
            assert max(sheet.shape) < 2000


def test_inputs_are_left_alone_and_runs_are_equal() -> None:
    frames, saliency = flat()[:, ::2, ::2], left_half(1)[:, ::2]
    boxes = np.tile(np.array([[1, 1, 4, 4]], np.int32), (6, 1))
    before = frames.copy(), saliency.copy(), boxes.copy()
    first = comparison_sheet(frames, [("a", saliency, "u")], title="t", boxes=boxes)
    assert np.array_equal(first, comparison_sheet(frames.copy(), [("a", saliency.copy(), "u")], title="t", boxes=boxes))
    for now, then in zip((frames, saliency, boxes), before, strict=True):
        assert np.array_equal(now, then)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "none": ({"maps": []}, "maps must have at least one row; got none"),
    "columns": ({"columns": 0}, "columns must be within 1..16; got 0"),
    "many columns": ({"columns": 17}, "columns must be within 1..16; got 17"),
    "nan": ({"maps": [("grad-cam", left_half(np.nan), "u")]}, "grad-cam: saliency must be finite"),
    "length": ({"maps": [("b", left_half(1, 5), "u")]}, "b: saliency must be floating point of shape (T, h, w), T=6"),
    "sizes": (
        {"maps": [("a", left_half(1), "u"), ("b", left_half(1, 6, 5, 5), "u")]},
        "b: maps must have one size, (6, 10, 16); got (6, 5, 5)",
    ),
    "boxes": ({"boxes": np.zeros(4, np.int32)}, "boxes must have shape (T, 4) or (T, M, 4); got (4,)"),
    "boxes of others": ({"boxes": np.zeros((5, 2, 4), np.int32)}, "a: boxes must be numbers of shape (T, 4), T=6"),
    "frames": ({"frames": flat() / 255}, "frames must be uint8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str) -> None:
    changes, message = BAD[case]
    arguments = {"frames": flat(), "maps": [("a", left_half(1), "u")], "title": "t", **changes}
    with pytest.raises(InputError) as caught:
        comparison_sheet(**arguments)
    assert message in str(caught.value)


def test_color_bar_is_the_colours_of_an_overlay_on_grey() -> None:
    bar = color_bar(-2.0, 4.0, 4.0, 7, 3)
    values = np.linspace(-2, 4, 7, dtype=np.float32)[None, None]
    painted = render_overlay(np.full((1, 1, 7, 3), 150, np.uint8), values, alpha=1.0, limit=4.0, min_side=1)
    assert bar.shape == (3, 7, 3)
    assert np.abs(bar.astype(int) - painted[0].astype(int)).max() <= 1
    assert bar[0, 2].tolist() == [150, 150, 150]


def test_contact_sheet_survives_half_of_a_surrogate_pair() -> None:
    sheet = contact_sheet(flat(), left_half(1), title="file \udc80.mp4", units="u")
    assert sheet.ndim == 3
