from __future__ import annotations

import numpy as np
import pytest

from small_nets import make_preprocessing

UCF = make_preprocessing(crop=(112, 112))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # 240 x 320 becomes 112 x 149; the crop starts at column (149 - 112) // 2 = 18.
        ((100, 30, 205, 121), (28, 14, 78, 57)),  # 46.56 - 18, 14, 95.45 - 18, 56.47
        ((0, 10, 40, 20), (0, 4, 1, 10)),  # -18, 4.67, 0.625, 9.33
        ((278, 225, 320, 240), (111, 105, 112, 112)),  # 111.44, 105, 131, 112
        ((0, 0, 38, 240), (0, 0, 0, 0)),  # ends at -0.31
        ((280, 0, 320, 240), (0, 0, 0, 0)),  # begins at 112.38
        ((100, 250, 200, 260), (0, 0, 0, 0)),
        ((-50, -50, 500, 500), (0, 0, 112, 112)),
    ],
)
def test_a_box_of_ucf_by_hand(box: tuple[int, ...], expected: tuple[int, ...]):
    mapped = UCF.map_boxes(np.array(box), 240, 320)
    assert mapped.dtype == np.int32
    assert tuple(mapped.tolist()) == expected


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (60.5, 20, 60.5, 40), (60, 40, 70, 40.0), (90, 30, 60, 50), (0, 0, 0, 0)]
)
def test_an_empty_box_stays_empty(box: tuple[float, ...]):
    # Growing to whole pixels would give the box without width, and clipping the inverted one, an area.
    for p in (UCF, make_preprocessing(crop=(40, 48)), make_preprocessing(crop=(100, 500))):
        assert p.map_boxes(np.array(box), 100, 140).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(3, 2, 4), (5, 4), (4,), (0, 4), (2, 0, 4), (2, 3, 1, 4)])
def test_any_leading_axes(shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-30, 330, shape)
    mapped = UCF.map_boxes(boxes, 240, 320)
    assert mapped.shape == shape
    for at in np.ndindex(shape[:-1]):
        assert np.array_equal(mapped[at], UCF.map_boxes(boxes[at], 240, 320))


def test_a_corner_on_a_whole_pixel_does_not_grow_the_box():
    # 15 source rows are 7 rows of the model. 149 columns for 320 are whole at the centre only: 74.5 - 18.
    for k in range(1, 17):
        y0, y1 = UCF.map_boxes(np.array([150, 15 * (k - 1), 170, 15 * k]), 240, 320)[[1, 3]]
        assert (y0, y1) == (7 * (k - 1), 7 * k)
    # Column 640 of 1280 is 112 of 224, and 111.99999999999999 in floating point.
    assert make_preprocessing(crop=(224, 224)).map_boxes(np.array([640, 0, 700, 720]), 720, 1280)[0] == 112


@pytest.mark.parametrize(
    ("source", "size", "crop"),
    [((240, 320), 112, (112, 112)), ((90, 60), 128, (96, 128)), ((101, 77), 64, (48, 56)), ((64, 64), 64, (64, 64))],
    ids=str,
)
def test_the_box_of_a_painted_rectangle(source: tuple[int, int], size: int, crop: tuple[int, int]):
    p = make_preprocessing(size=size, crop=crop)
    H, W = source
    rng = np.random.default_rng(3)
    for _ in range(20):
        x = np.sort(rng.integers(0, W + 1, 2)) + np.array([0, 3])
        y = np.sort(rng.integers(0, H + 1, 2)) + np.array([0, 3])
        frame = np.zeros((1, H, W, 3), np.uint8)
        frame[0, y[0] : y[1], x[0] : x[1]] = 255
        seen = p.crop_frames(frame)[0, ..., 0] > 127
        x0, y0, x1, y1 = p.map_boxes(np.array([x[0], y[0], x[1], y[1]]), H, W).tolist()
        inside = np.zeros_like(seen)
        inside[y0:y1, x0:x1] = True
        # The box holds every pixel of which half is painted, and no row or column more than one beside them.
        assert not (seen & ~inside).any()
        if seen.any():
            ys, xs = np.nonzero(seen)
            assert x0 >= xs.min() - 1
            assert y0 >= ys.min() - 1
            assert x1 <= xs.max() + 2
            assert y1 <= ys.max() + 2
