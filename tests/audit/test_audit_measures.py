from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from aosa_fast.audit.clip.grids import clip_grid, in_millionths, moving_centre, window_grid
from aosa_fast.audit.clip.measures import agreement, border_ring, box_voxels, measure
from aosa_fast.audit.store.schema import MEASURES
from aosa_fast.audit.tasks import Prepared
from aosa_fast.data import Clip, Sample
from aosa_fast.errors import InputError

GRIDS = ("grid", "grid_moving", "grid_signed", "grid_around")
OF_THE_MODEL = {"agreement", "static_probability"}
OF_THE_MAP = {name for name in MEASURES if not name.startswith("area_")} - {"camera_motion"} - OF_THE_MODEL


def prepared(shape: tuple[int, int, int], **parts: Any) -> Prepared:
    frames, height, width = shape
    values: dict[str, Any] = {
        "moving": np.zeros(shape, bool),
        "static": np.zeros((height, width), bool),
        "letterbox": np.zeros((height, width), bool),
        "camera": 0.0,
        "boxes": None,
        **parts,
    }
    pictures = np.zeros((*shape, 3), np.uint8)
    return Prepared(
        sample=Sample("a clip", None, 0),
        clip=Clip(pictures, values.pop("boxes"), np.arange(frames)),
        flow=np.zeros((frames - 1, height, width, 2), np.float32),
        content_hash="",
        seconds={},
        **values,
    )


def shape_of(seed: int) -> tuple[tuple[int, int, int], np.random.Generator]:
    rng = np.random.default_rng(seed)
    frames, height, width = (int(n) for n in rng.integers((1, 4, 4), (20, 40, 40)))
    return (frames, height, width), rng


def grid_by_repetition(values: NDArray[Any]) -> NDArray[np.float64]:
    """Every voxel cut into 8 x 8 x 8, so that a cell is a whole number of parts."""
    for axis in range(3):
        count = values.shape[axis]
        parts = np.repeat(values.astype(float), 8, axis=axis)
        values = parts.reshape(*values.shape[:axis], 8, count, *values.shape[axis + 1 :]).sum(axis=axis + 1)
    return np.asarray(values / values.sum())


def window_by_loops(picture: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    height, width = picture.shape
    cells = np.zeros((9, 9))
    for row in range(9):
        for column in range(9):
            top, left = y + (row - 4.5) * height / 8, x + (column - 4.5) * width / 8
            for i in range(height):
                for j in range(width):
                    high = min(top + height / 8, i + 1) - max(top, i)
                    wide = min(left + width / 8, j + 1) - max(left, j)
                    cells[row, column] += picture[i, j] * max(high, 0) * max(wide, 0)
    return cells


def test_the_columns_are_those_of_the_rows() -> None:
    values = measure(np.ones((3, 9, 10), np.float32), prepared((3, 9, 10)))
    assert set(values) == {*MEASURES, *GRIDS, "positive_share"} - OF_THE_MODEL
    assert all(value is None or type(value) in (float, list) for value in values.values())
    assert all(type(number) is float for name in ("grid",) for number in values[name])


def test_shares_by_hand() -> None:
    saliency = np.zeros((2, 12, 24), np.float32)
    saliency[0, 0, 5] = 3  # in the ring, the letterbox and a box
    saliency[0, 6, 6] = 4  # static, and moving
    saliency[1, 6, 6] = 1  # static; in a frame without a box
    saliency[1, 3, 20] = 2  # in none
    saliency[1, 11, 23] = -10
    moving = np.zeros((2, 12, 24), bool)
    moving[0, 5:8, 6], moving[1, 0, 0] = True, True
    static, bars = np.zeros((2, 12, 24), bool)
    static[6, 6:9], bars[:2] = True, True
    boxes = np.zeros((2, 3, 4), np.int32)
    boxes[0, 0], boxes[0, 2] = (4, 0, 8, 2), (5, 1, 9, 4)
    clip = prepared((2, 12, 24), moving=moving, static=static, letterbox=bars, boxes=boxes, camera=1.25)
    values = measure(saliency, clip)
    expected = {
        "positive_share": 10 / 20,
        "share_border": 3 / 10,
        "area_border": 1 - 10 * 22 / 288,
        "share_letterbox": 3 / 10,
        "area_letterbox": 2 / 12,
        "share_static": 5 / 10,
        "area_static": 3 / 288,
        "share_moving": 4 / 10,
        "area_moving": 4 / 576,
        "share_boxes": 3 / 10,
        "area_boxes": (8 + 12 - 3) / 576,
        "best_frame_share": 7 / 10,
        "effective_frames": math.exp(-0.7 * math.log(0.7) - 0.3 * math.log(0.3)),
        "effective_area": math.exp(-0.3 * math.log(0.3) - 0.5 * math.log(0.5) - 0.2 * math.log(0.2)) / 288,
        "centroid_x": (0.3 * 5.5 + 0.5 * 6.5 + 0.2 * 20.5) / 24,
        "centroid_y": (0.3 * 0.5 + 0.5 * 6.5 + 0.2 * 3.5) / 12,
        "centroid_t": (0.7 * 0.5 + 0.3 * 1.5) / 2,
        "camera_motion": 1.25,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    x, y = 9.0, 4.1
    square = 0.3 * ((5.5 - x) ** 2 + (0.5 - y) ** 2) + 0.5 * ((6.5 - x) ** 2 + (6.5 - y) ** 2)
    square += 0.2 * ((20.5 - x) ** 2 + (3.5 - y) ** 2)
    assert values["spread"] == pytest.approx(math.sqrt(square) / 12)


def test_a_flat_map_has_the_share_of_its_area_everywhere() -> None:
    (frames, height, width), rng = (7, 30, 44), np.random.default_rng(0)
    boxes = np.zeros((frames, 1, 4), np.int32)
    boxes[2:, 0] = (3, 4, 17, 29)
    clip = prepared(
        (frames, height, width),
        moving=rng.random((frames, height, width)) < 0.2,
        static=rng.random((height, width)) < 0.1,
        letterbox=rng.random((height, width)) < 0.3,
        boxes=boxes,
    )
    values = measure(np.full((frames, height, width), 0.37, np.float32), clip)
    for region in ("border", "letterbox", "static", "moving", "boxes"):
        assert values[f"share_{region}"] == pytest.approx(values[f"area_{region}"]) != 0
    assert values["best_frame_share"] == pytest.approx(1 / frames)
    assert (values["effective_frames"], values["effective_area"]) == pytest.approx((frames, 1))
    assert [values[f"centroid_{axis}"] for axis in "xyt"] == pytest.approx([0.5] * 3)
    assert values["spread"] == pytest.approx(math.hypot(*np.sqrt((np.array([30, 44]) ** 2 - 1) / 12)) / 30)
    assert values["grid"] == pytest.approx([1 / 512] * 512, abs=1e-6)
    assert values["positive_share"] == 1


@pytest.mark.parametrize("seed", range(8))
def test_concentration_is_what_scipy_says(seed: int) -> None:
    shape, rng = shape_of(seed)
    saliency = rng.standard_normal(shape).astype(np.float32) ** 3
    values = measure(saliency, prepared(shape))
    positive = np.where(saliency > 0, saliency, 0).astype(np.float64)
    picture = positive.sum(axis=0)
    assert values["effective_frames"] == pytest.approx(math.exp(stats.entropy(positive.sum(axis=(1, 2)))))
    assert values["effective_area"] == pytest.approx(math.exp(stats.entropy(picture.ravel())) / picture.size)
    t, y, x = (np.array(ndimage.center_of_mass(positive)) + 0.5) / shape
    assert [values[f"centroid_{axis}"] for axis in "xyt"] == pytest.approx([x, y, t])
    rows, columns = np.indices(picture.shape) + 0.5
    square = np.average((columns - x * shape[2]) ** 2 + (rows - y * shape[1]) ** 2, weights=picture)
    assert values["spread"] == pytest.approx(math.sqrt(square) / min(shape[1:]))
    assert values["positive_share"] == pytest.approx(positive.sum() / np.abs(saliency.astype(float)).sum())


@pytest.mark.parametrize("seed", range(8))
def test_regions_are_what_loops_say(seed: int) -> None:
    shape, rng = shape_of(100 + seed)
    frames, height, width = shape
    saliency = rng.standard_normal(shape).astype(np.float32)
    corners = np.sort(rng.integers(-3, 45, (frames, 4, 2, 2)), axis=2).reshape(frames, 4, 4)
    corners[rng.random((frames, 4)) < 0.4] = 0
    moving = rng.random(shape) < 0.3
    values = measure(saliency, prepared(shape, moving=moving, boxes=corners.astype(np.int32)))
    depth = max(1, round(min(height, width) / 12))
    held = {name: np.zeros(shape, bool) for name in ("border", "moving", "boxes")}
    for t, y, x in np.ndindex(shape):
        held["border"][t, y, x] = min(x, y, width - 1 - x, height - 1 - y) < depth
        held["moving"][t, y, x] = moving[t, y, x]
        held["boxes"][t, y, x] = any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in corners[t])
    positive = np.maximum(saliency.astype(np.float64), 0)
    for name, inside in held.items():
        if inside.any() or name != "boxes":
            assert values[f"share_{name}"] == pytest.approx(positive[inside].sum() / positive.sum())
            assert values[f"area_{name}"] == pytest.approx(inside.mean())
        else:
            assert values["share_boxes"] is None


def test_without_boxes_there_is_no_share_of_them() -> None:
    ones = np.ones((2, 8, 8), np.float32)
    for boxes in (None, np.zeros((2, 0, 4), np.int32), np.zeros((2, 3, 4), np.int32)):
        values = measure(ones, prepared((2, 8, 8), boxes=boxes))
        assert values["share_boxes"] is values["area_boxes"] is None
    beyond = np.array([[[8, 0, 12, 4]], [[-5, 0, 0, 4]]], np.int32)
    assert box_voxels(beyond, (2, 8, 8)) is None


@pytest.mark.parametrize(("side", "depth"), [(112, 9), (64, 5), (224, 19), (12, 1), (4, 1), (2, 1), (30, 2), (18, 2)])
def test_the_border_is_a_twelfth_of_the_shorter_side(side: int, depth: int) -> None:
    expected = np.ones((side, side + 7), bool)
    expected[depth:-depth, depth:-depth] = False
    assert np.array_equal(border_ring(side, side + 7), expected)
    assert np.array_equal(border_ring(side + 7, side), expected.T)


@pytest.mark.parametrize("saliency", [np.zeros((4, 8, 8), np.float32), np.full((4, 8, 8), -0.5, np.float32)])
def test_a_map_without_anything_positive_has_no_shares_and_keeps_the_rest(saliency: NDArray[np.float32]) -> None:
    moving = np.zeros((4, 8, 8), bool)
    moving[:, 2:4, 1:3] = True
    boxes = np.tile(np.array([[0, 0, 4, 4]], np.int32), (4, 1, 1))
    values = measure(saliency, prepared((4, 8, 8), moving=moving, boxes=boxes, camera=2.0))
    assert all(values[name] is None for name in OF_THE_MAP)
    assert values["grid"] is values["grid_around"] is None
    assert values["positive_share"] == (0.0 if saliency.any() else None)
    assert (values["area_moving"], values["area_boxes"], values["area_static"]) == (1 / 16, 1 / 4, 0.0)
    assert values["camera_motion"] == 2.0
    assert sum(values["grid_moving"]) == pytest.approx(1)


def test_a_clip_in_which_nothing_moves() -> None:
    values = measure(np.ones((1, 8, 8), np.float32), prepared((1, 8, 8)))
    assert values["grid_moving"] is values["grid_around"] is None
    assert (values["share_moving"], values["area_moving"], values["effective_frames"]) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_map_that_is_not_finite_is_refused_in_one_line(bad: float) -> None:
    saliency = np.ones((2, 5, 5), np.float32)
    saliency[1, 2, 3:] = bad
    with pytest.raises(InputError, match=r"^saliency must be finite; got 2 values of a clip that are not$"):
        measure(saliency, prepared((2, 5, 5)))
    with pytest.raises(InputError, match=r"^saliency must have the clip's shape \(2, 5, 5\); got \(2, 5, 4\)$"):
        measure(saliency[..., 1:], prepared((2, 5, 5)))


@pytest.mark.parametrize("shape", [(16, 112, 112), (8, 8, 8), (16, 64, 96), (1, 5, 3), (3, 7, 11), (13, 9, 30)])
def test_the_grid_is_that_of_voxels_cut_into_parts(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(sum(shape)).exponential(size=shape) ** 3
    grid = clip_grid(values)
    assert grid is not None
    assert np.reshape(grid, (8, 8, 8)) == pytest.approx(grid_by_repetition(values), abs=1.001e-6)
    assert sum(grid) == pytest.approx(1, abs=1e-9)
    assert clip_grid(np.zeros(shape)) is None


def test_the_moving_pixels_have_a_grid_of_the_same_kind() -> None:
    moving = np.random.default_rng(1).random((9, 20, 13)) < 0.1
    values = measure(np.ones((9, 20, 13), np.float32), prepared((9, 20, 13), moving=moving))
    assert np.reshape(values["grid_moving"], (8, 8, 8)) == pytest.approx(grid_by_repetition(moving), abs=1.001e-6)


def test_signed_sums_cancel_over_time_and_leave_out_the_boxes() -> None:
    saliency = np.zeros((2, 16, 24), np.float32)
    saliency[0, 0, 0], saliency[1, 1, 2] = 3, -1  # one cell is 2 x 3 pixels
    saliency[:, 15, 23] = 4, -4
    saliency[:, 8, 12] = 2  # in a box
    boxes = np.tile(np.array([[12, 8, 15, 10]], np.int32), (2, 1, 1))
    expected = np.zeros((8, 8))
    expected[0, 0] = 2 / 16
    values = measure(saliency, prepared((2, 16, 24), boxes=boxes))
    assert np.reshape(values["grid_signed"], (8, 8)) == pytest.approx(expected)
    expected[4, 4] = 4 / 16
    assert np.reshape(measure(saliency, prepared((2, 16, 24)))["grid_signed"], (8, 8)) == pytest.approx(expected)
    assert measure(np.zeros((2, 16, 24), np.float32), prepared((2, 16, 24)))["grid_signed"] is None


def test_what_lies_on_the_actor_is_not_beside_the_motion() -> None:
    saliency = np.zeros((3, 32, 32), np.float32)
    saliency[:, 12:16, 24:28] = 1
    moving = np.zeros((3, 32, 32), bool)
    moving[:, 12:16, 8:12] = True  # a hand, of an actor who reaches as far as the map
    boxes = np.tile(np.array([[8, 8, 30, 30]], np.int32), (3, 1, 1))
    alone, known = (prepared((3, 32, 32), moving=moving, boxes=own) for own in (None, boxes))
    assert sum(measure(saliency, alone)["grid_around"]) == pytest.approx(1)
    assert sum(measure(saliency, known)["grid_around"]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_window_round_the_motion_is_that_of_loops(seed: int) -> None:
    (_, height, width), rng = shape_of(seed)
    picture = rng.random((height, width))
    picture /= picture.sum()
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    around = np.reshape(window_grid(picture, (x, y)), (9, 9))
    assert around == pytest.approx(window_by_loops(picture, x, y), abs=1.001e-6)
    assert around.sum() <= 1


def test_the_window_moves_with_the_motion_and_drops_what_is_beyond() -> None:
    saliency = np.zeros((3, 32, 32), np.float32)
    saliency[:, 12:16, 20:24] = 1
    saliency[:, 12:16, 0:4] = 1
    saliency[:, 12:14, 30:] = 4
    saliency[:, 31, 31] = 16  # the window ends at 31
    moving = np.zeros((3, 32, 32), bool)
    moving[0, 10:14, 15:17], moving[2, 12:16, 17:19] = True, True  # means (16, 12) and (18, 14); none between
    around = np.reshape(measure(saliency, prepared((3, 32, 32), moving=moving))["grid_around"], (9, 9))
    # The middle is (17, 13); the middle cell reaches from 15 to 19, and from 11 to 15.
    expected = np.zeros((9, 9))
    for row, high in ((4, 3), (5, 1)):  # pixels 12..14 and 15
        expected[row, 5:7] = 3 * high * 3, 3 * high * 1  # pixels 20..22 and 23
        expected[row, 0:2] = 3 * high * 3, 3 * high * 1  # pixels 0..2 and 3
    expected[4, 7:9] = 3 * 4 * 2  # pixels 30 and 31
    expected[4, 5] -= 3  # pixel 20 is two from what moves in the last frame
    expected[5, 5] -= 1
    assert around == pytest.approx(expected / 192, abs=1.001e-6)
    assert around.sum() == pytest.approx(1 - 52 / 192, abs=1e-6)


def test_the_centre_of_motion_is_the_median_over_frames_that_have_some() -> None:
    moving = np.zeros((5, 20, 30), bool)
    moving[0, 3, 4] = moving[1, 5, 6] = moving[4, 19, 29] = True
    assert moving_centre(moving) == (6.5, 5.5)
    moving[4] = False
    assert moving_centre(moving) == (5.5, 4.5)
    assert moving_centre(np.zeros((5, 20, 30), bool)) is None


def test_millionths_keep_the_sum_and_move_no_number_by_one() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 3, 81, 512, 5000):
        for total in (1.0, 0.25, 1e-7, 0.0):
            shares = rng.exponential(size=count) ** 4
            shares *= total / shares.sum()
            rounded = np.array(in_millionths(shares))
            assert np.abs(rounded - shares).max() < 1e-6
            assert rounded.sum() == pytest.approx(total, abs=5.1e-7)
            assert rounded * 1e6 == pytest.approx(np.round(rounded * 1e6), abs=1e-6)
    assert in_millionths(np.full(3, 1 / 3)) == [0.333334, 0.333333, 0.333333]


def test_agreement_is_pearsons_correlation() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((4, 9, 11)).astype(np.float32)
    b = (0.3 * a + rng.standard_normal(a.shape)).astype(np.float32)
    expected = stats.pearsonr(a.ravel().astype(np.float64), b.ravel().astype(np.float64)).statistic
    assert agreement(a, b) == pytest.approx(expected, rel=1e-9)
    assert agreement(b, a) == pytest.approx(expected, rel=1e-9)
    assert agreement(a, 5 * a + 2) == pytest.approx(1, abs=1e-6)
    assert agreement(a, -a) == pytest.approx(-1)
    for factor in np.linspace(0.1, 9, 40, dtype=np.float32):  # rounding must not lead beyond 1
        assert 0.999 < (agreement(a, factor * a) or 0) <= 1
    for scale in (1e-42, 1e36):
        assert agreement(np.float32(scale) * a, b) == pytest.approx(expected, rel=5e-3)
    flat = np.full_like(a, 0.1)
    assert agreement(a, flat) is agreement(flat, a) is agreement(flat, flat) is None


def test_extreme_numbers_do_not_overflow_or_vanish() -> None:
    for scale in (1e-45, 1e-30, 3e38):
        saliency = np.zeros((4, 8, 8), np.float32)
        saliency[1:3, 2:6, 2:6] = scale
        values = measure(saliency, prepared((4, 8, 8)))
        assert (values["effective_frames"], values["effective_area"]) == pytest.approx((2, 16 / 64))
        assert values["positive_share"] == 1
    assert measure(np.full((8, 16, 16), 3e38, np.float32), prepared((8, 16, 16)))["effective_area"] == pytest.approx(1)
