from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aosa_fast.errors import InputError
from aosa_fast.video import contact_sheet, render_overlay
from aosa_fast.video.colormap import COLORS, LEVELS, OPACITY
from aosa_fast.video.overlay import _resize_bilinear


def noise(T: int = 2, H: int = 32, W: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def map_with(value: float, T: int = 2, h: int = 32, w: int = 40) -> np.ndarray:
    """Zero but for the left half of every frame."""
    saliency = np.zeros((T, h, w), np.float32)
    saliency[:, :, : w // 2] = value
    return saliency


def test_zero_is_no_colour_and_sign_chooses_it() -> None:
    frames = np.full((2, 32, 40, 3), 128, np.uint8)
    for value, warm in ((0.2, True), (-0.2, False)):
        out = render_overlay(frames, map_with(value), limit=0.3, min_side=1)
        assert np.array_equal(out[:, :, 20:], frames[:, :, 20:])
        red, _, blue = out[0, 0, 0].astype(int)
        assert (red > blue + 50) if warm else (blue > red + 30)


def test_blend_by_hand() -> None:
    frames = noise()
    saliency = map_with(0.5)
    saliency[:, :16] *= -0.4
    out = render_overlay(frames, saliency, alpha=0.6, limit=0.5, min_side=1).astype(float)
    for rows, level in ((slice(16, 32), 2 * LEVELS), (slice(0, 16), LEVELS - round(0.4 * LEVELS))):
        share = 0.6 * OPACITY[level]
        expected = frames[:, rows, :20] * (1 - share) + COLORS[level] * share
        # Shares are rounded to 1/256: up to half a level of 255, and half for rounding.
        assert np.abs(out[:, rows, :20] - expected).max() <= 1.05
    assert COLORS[2 * LEVELS].tolist() == [252, 248, 148]


def test_opacity_grows_with_the_value_and_colours_get_lighter() -> None:
    assert OPACITY[LEVELS] == 0
    assert OPACITY[0] == OPACITY[-1] == 1
    assert (np.diff(OPACITY[LEVELS:]) > 0).all()
    lightness = COLORS @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness[LEVELS + 1 :]) > 0).all()
    assert (np.diff(lightness[:LEVELS]) < 0).all()


def test_values_beyond_the_limit_saturate() -> None:
    frames = noise()
    one = render_overlay(frames, map_with(1.0), limit=1.0)
    assert np.array_equal(one, render_overlay(frames, map_with(9.0), limit=1.0))
    assert not np.array_equal(one, render_overlay(frames, map_with(1.0), limit=9.0))
    assert np.array_equal(one, render_overlay(frames, map_with(7.0)))


def test_default_limit_ignores_a_few_outliers_but_not_the_only_values() -> None:
    frames = noise(1, 100, 100)
    saliency = map_with(1.0, 1, 100, 100)
    spiked = saliency.copy()
    spiked[0, 99, 99] = 1e6
    a, b = (render_overlay(frames, s, min_side=1) for s in (saliency, spiked))
    assert np.array_equal(a[0, :99], b[0, :99])
    alone = np.zeros((1, 100, 100), np.float32)
    alone[0, 5, 5] = 1e-30
    out = render_overlay(frames, alone, min_side=1)
    assert (out != frames).any(axis=-1).sum() == 1


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_constant_map_changes_nothing(value: float) -> None:
    frames = noise(2, 300, 240)
    saliency = np.full((2, 7, 7), value, np.float32)
    assert np.array_equal(render_overlay(frames, saliency), frames)
    assert np.array_equal(render_overlay(frames, saliency, limit=1.0), frames)
    assert np.array_equal(render_overlay(frames, map_with(0.5), limit=0.0), frames)
    assert np.array_equal(render_overlay(frames, map_with(0.5), alpha=0.0), frames)


def test_small_frames_are_enlarged_by_a_whole_factor() -> None:
    frames = noise(1, 112, 150)
    assert render_overlay(frames, map_with(0.5, 1)).shape == (1, 224, 300, 3)
    assert render_overlay(noise(1, 100, 90), map_with(0.5, 1)).shape == (1, 300, 270, 3)
    assert render_overlay(noise(1, 224, 224), map_with(0.5, 1)).shape == (1, 224, 224, 3)
    assert render_overlay(noise(1, 1, 1), map_with(0.5, 1)).shape == (1, 224, 224, 3)


def test_resize_is_bilinear_with_pixel_centres() -> None:
    values = np.array([[0.0, 4.0]], np.float32)
    assert _resize_bilinear(values, 2, 4).tolist() == [[0, 1, 3, 4], [0, 1, 3, 4]]
    assert _resize_bilinear(np.array([[0, 2, 4, 6]], np.float32), 1, 2).tolist() == [[1, 5]]
    constant = np.full((7, 5), 0.1, np.float32)
    assert (_resize_bilinear(constant, 31, 64) == np.float32(0.1)).all()
    same = np.random.default_rng(0).random((4, 5), np.float32)
    assert np.array_equal(_resize_bilinear(same, 4, 5), same)


def test_inputs_are_left_alone_and_runs_are_equal() -> None:
    frames, saliency = noise(3, 40, 60)[:, ::2, ::3], map_with(0.5, 3)[:, ::2]
    boxes = np.array([[0, 0, 5, 5]] * 3)
    before = frames.copy(), saliency.copy(), boxes.copy()
    first = render_overlay(frames, saliency, boxes=boxes, min_side=1)
    assert np.array_equal(first, render_overlay(frames.copy(), saliency.copy(), boxes=boxes, min_side=1))
    for now, then in zip((frames, saliency, boxes), before, strict=True):
        assert np.array_equal(now, then)


def test_boxes_are_half_open_in_saliency_pixels() -> None:
    frames = np.full((3, 40, 80, 3), 90, np.uint8)
    saliency = np.zeros((3, 20, 20), np.float32)
    boxes = np.array([[5, 5, 10, 15], [5, 5, 5, 15], [-4, 18, 99, 99]])
    out = render_overlay(frames, saliency, boxes=boxes, min_side=1)
    white = (out == 255).all(axis=-1)
    rows, columns = np.nonzero(white[0])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (20, 39, 10, 29)
    assert white[0].sum() == 2 * 20 + 2 * 18
    assert (out[0, 11, 21:39] == 0).all()
    assert (out[0, 13:27, 23:37] == 90).all()
    assert np.array_equal(out[1], frames[1])
    assert white[2, 36, :].all()
    assert white[2, 39, :].all()


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "nan": (lambda: render_overlay(noise(), map_with(np.nan)), "saliency must be finite; got 1280 NaN or infinite"),
    "inf": (lambda: render_overlay(noise(), map_with(np.inf)), "saliency must be finite"),
    "frames": (lambda: render_overlay(noise()[0], map_with(1)), "frames must be uint8 of shape (T, H, W, 3)"),
    "float frames": (lambda: render_overlay(noise() / 255, map_with(1)), "frames must be uint8"),
    "length": (lambda: render_overlay(noise(), map_with(1, 3)), "shape (T, h, w), T=2; got float32 of (3, 32, 40)"),
    "integers": (lambda: render_overlay(noise(), map_with(1).astype(int)), "saliency must be floating point"),
    "boxes": (lambda: render_overlay(noise(), map_with(1), boxes=np.zeros((3, 4))), "of shape (T, 4), T=2; got"),
    "alpha": (lambda: render_overlay(noise(), map_with(1), alpha=1.5), "alpha must be within 0..1; got 1.5"),
    "limit": (
        lambda: render_overlay(noise(), map_with(1), limit=-1),
        "limit must be a finite number, at least 0; got -1",
    ),
    "limit nan": (lambda: render_overlay(noise(), map_with(1), limit=np.nan), "limit must be a finite number"),
    "columns": (lambda: contact_sheet(noise(), map_with(1), title="", units="", columns=0), "columns must be"),
    "captions": (
        lambda: contact_sheet(noise(), map_with(1), title="", units="", captions=["a"]),
        "captions must have one text per frame, T=2; got 1",
    ),
    "sheet nan": (lambda: contact_sheet(noise(), map_with(np.nan), title="", units=""), "saliency must be finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("T", "columns", "rows"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (40, 8, 2), (16, 4, 4), (16, 99, 1)]
)
def test_sheet_shows_source_above_overlay(T: int, columns: int, rows: int) -> None:
    frames = np.full((T, 64, 64, 3), 90, np.uint8)
    frames[:, :, :, 1] = np.arange(T)[:, None, None] * 5
    sheet = contact_sheet(frames, map_with(0.5, T, 8, 8), title="a title", units="drop of p", columns=columns)
    assert sheet.dtype == np.uint8
    plain = (sheet[..., 0] == 90) & (sheet[..., 2] == 90)
    left = plain[:, 20 : 20 + 30].all(axis=1)
    # Rows of the sheet where the left half of a cell is as in the source: one run per row of frames.
    assert (np.diff(left.astype(int)) == 1).sum() == rows
    first = sheet[np.flatnonzero(left)[0], 25]
    assert first.tolist() == [90, 0, 90]
    values, counts = np.unique(sheet[..., 1][plain], return_counts=True)
    # Whole frames only: single pixels of text and colour can be equal to one by chance.
    greens = set(values[counts > 10_000].tolist())
    chosen = np.rint(np.linspace(0, T - 1, min(T, 16))).astype(int)
    assert greens == {5 * int(t) for t in chosen}


def test_sheet_of_any_shape_and_text() -> None:
    for H, W in ((1, 1), (8, 400), (400, 8), (64, 48)):
        for value in (0.0, 0.5, -0.5, 1e-30, 1e30):
            sheet = contact_sheet(
                noise(2, H, W), map_with(value), title="very long " * 60 + "\n", units="drop of p " * 40, columns=1
            )
            assert sheet.ndim == 3
            assert max(sheet.shape) < 2600


def test_sheet_scale_is_of_the_whole_clip() -> None:
    frames = np.full((33, 16, 16, 3), 90, np.uint8)
    saliency = map_with(0.1, 33, 16, 16)
    options = {"title": "", "units": "drop of p"}
    base = contact_sheet(frames, saliency, limit=0.4, **options)
    assert np.array_equal(base, contact_sheet(frames, saliency, limit=0.4, **options))
    assert not np.array_equal(base, contact_sheet(frames, saliency, **options))
    # Frame 1 is not among the sixteen shown of 33, but it sets the scale.
    saliency[1] *= 4
    assert not np.array_equal(contact_sheet(frames, saliency, **options), base[:0])
    assert np.array_equal(
        contact_sheet(frames, saliency, **options), contact_sheet(frames, saliency, limit=0.4, **options)
    )


def test_what_rounding_leaves_is_no_end_of_the_colour_bar() -> None:
    frames, saliency = noise(2, 60, 60), map_with(0.5, 2)
    leftover = saliency.copy()
    leftover[saliency == 0] = -1e-12
    sheets = [contact_sheet(frames, values, title="why?", units="drop") for values in (saliency, leftover)]
    assert np.array_equal(*sheets)
