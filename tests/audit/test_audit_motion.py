from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from aosa_fast.audit.clip.camera import camera_flow, camera_length, camera_motion, robust_deviation
from aosa_fast.audit.clip.motion import letterbox, moving_pixels, static_pixels
from aosa_fast.data import open_dataset
from aosa_fast.demo.render import render_clip
from aosa_fast.methods.flow import optical_flow
from aosa_fast.models.preprocess import Preprocessing

CAMERAS = ("pan", "zoom", "turn", "shear")


def cameras(kind: str, pairs: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cameras that pan by up to 3 pixels, and zoom, turn or shear by up to 6 % round the frame's middle."""
    motion = np.zeros((pairs, 2, 3))
    amount = rng.uniform(-0.06, 0.06, (pairs, 1, 1))
    turns = {"pan": np.zeros((2, 2)), "zoom": np.eye(2), "turn": np.array([[0, 1], [-1, 0]])}
    motion[:, :, :2] = rng.uniform(-0.06, 0.06, (pairs, 2, 2)) if kind == "shear" else amount * turns[kind]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    motion[:, :, 2] = rng.uniform(-3, 3, (pairs, 2)) - motion[:, :, :2] @ middle
    return motion


def flow_of(camera: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """From the definition."""
    y, x = np.indices((height, width))
    return np.einsum("pij,hwj->phwi", camera, np.stack([x, y, np.ones_like(x)], axis=-1))


@pytest.mark.parametrize(("height", "width"), [(112, 112), (64, 97), (4, 4), (5, 7), (4, 300), (900, 5)])
@pytest.mark.parametrize("kind", CAMERAS)
def test_a_camera_alone_is_found_to_the_last_digit(kind: str, height: int, width: int) -> None:
    camera = cameras(kind, 3, height, width, np.random.default_rng(1))
    flow = flow_of(camera, height, width)
    assert camera_motion(flow.astype(np.float32)) == pytest.approx(camera, abs=2e-5)
    np.testing.assert_allclose(camera_flow(camera, height, width), flow, rtol=0, atol=2e-5)


@pytest.mark.parametrize("place", ["anywhere", "at an edge"])
@pytest.mark.parametrize("kind", CAMERAS)
def test_an_object_of_two_fifths_of_the_frame_does_not_pull_the_camera(kind: str, place: str) -> None:
    worst = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(50, 130, 2)
        camera = cameras(kind, 15, height, width, rng)
        flow = flow_of(camera, height, width)
        noisy = flow + 0.1 * rng.standard_normal(flow.shape)
        high, wide = (height, 0.4 * width) if place == "at an edge" else np.sqrt(0.4) * np.array([height, width])
        for pair in noisy:
            y, x = rng.integers(height - int(high) + 1), rng.choice([0, width - int(wide)])
            x = x if place == "at an edge" else rng.integers(width - int(wide) + 1)
            way = rng.uniform(0, 2 * np.pi)
            pair[y : y + int(high), x : x + int(wide)] += rng.uniform(1.5, 6) * np.array([np.cos(way), np.sin(way)])
        found = camera_flow(camera_motion(noisy.astype(np.float32)), height, width)
        worst.append(np.abs(found - flow).max())
    assert max(worst) < 0.2


def test_what_fills_most_of_the_frame_is_the_camera() -> None:
    flow = np.zeros((1, 40, 40, 2), np.float32)
    flow[:, :, 14:] = (2, 1)
    assert camera_motion(flow)[0] == pytest.approx(np.array([[0, 0, 2], [0, 0, 1]]), abs=1e-6)


def test_bars_that_fill_most_of_the_frame_are_not_the_camera() -> None:
    camera = cameras("zoom", 4, 60, 80, np.random.default_rng(2))
    bars = np.zeros((60, 80), bool)
    bars[:17], bars[-18:], bars[:, :9] = True, True, True
    flow = np.where(bars[..., None], 0, flow_of(camera, 60, 80)).astype(np.float32)
    assert camera_motion(flow, bars) == pytest.approx(camera, abs=2e-5)
    assert camera_motion(flow) == pytest.approx(0 * camera, abs=2e-5)
    bars[:, 9:79] = True
    assert not camera_motion(flow, bars).any()  # one column says nothing
    assert camera_motion(flow, np.zeros((60, 80), bool)).tobytes() == camera_motion(flow).tobytes()


def test_every_pair_is_fitted_for_itself_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((6, 60, 70, 2)).astype(np.float32)
    whole = camera_motion(flow)
    assert whole.tobytes() == camera_motion(flow.copy()).tobytes()
    assert whole == pytest.approx(np.concatenate([camera_motion(pair[None]) for pair in flow]), abs=1e-9)


def test_a_single_frame_has_no_camera_motion() -> None:
    none = np.zeros((0, 20, 30, 2), np.float32)
    assert camera_motion(none).shape == (0, 2, 3)
    assert camera_flow(camera_motion(none), 20, 30).shape == none.shape
    assert camera_length(camera_motion(none), 20, 30) == 0.0
    assert not moving_pixels(none, camera_motion(none), np.zeros((1, 20, 30, 3), np.uint8)).any()


def test_the_length_of_the_cameras_motion_by_hand() -> None:
    pans = np.zeros((2, 2, 3))
    pans[0, :, 2], pans[1, :, 2] = (3, 4), (0, 1)
    assert camera_length(pans, 50, 60) == pytest.approx((5 + 1) / 2)
    zoom = np.array([[[0.1, 0, 0], [0, 0, 0]]])  # a tenth of the column, which is 9.5 in the mean
    assert camera_length(zoom, 20, 20) == pytest.approx(0.95)


def test_the_deviation_is_that_of_the_inner_half() -> None:
    rng = np.random.default_rng(3)
    off = rng.normal(0, 1.7, (20, 2000, 2))
    off[:, :300] += 50
    assert robust_deviation((off**2).sum(-1)).mean() == pytest.approx(1.7, rel=0.25)
    assert robust_deviation((off[:, 300:] ** 2).sum(-1)).mean() == pytest.approx(1.7, rel=0.02)


def in_boxes(boxes: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    for t, (x0, y0, x1, y1) in enumerate(boxes.reshape(-1, 4)):
        inside[t, y0:y1, x0:x1] = True
    return inside


def moving_of(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    flow = optical_flow(frames[None])[0].numpy()
    return moving_pixels(flow, camera_motion(flow), frames)


@pytest.mark.parametrize("data", ["rendered", "rendered:pan=0.2", "rendered:pan=0.4:noise=8"])
@pytest.mark.parametrize("size", [64, 112])
def test_what_moves_in_rendered_clips_is_the_mover(data: str, size: int) -> None:
    dataset = open_dataset(data)
    preprocessing = Preprocessing(16, 1, size, (size, size), (0.0,) * 3, (1.0,) * 3)
    precision, recall, misses = [], [], []
    for sample in dataset.samples[:6]:
        clip = dataset.read(sample, preprocessing)
        assert clip.boxes is not None
        moving = moving_of(clip.frames)
        inside = in_boxes(clip.boxes, moving.shape)
        precision.append((moving & inside).sum() / moving.sum())
        recall.append((moving & inside).sum() / inside.sum())
        for own, box, (corners,) in zip(moving, inside, clip.boxes, strict=True):
            if box.sum() > 100 and own.any():
                y, x = np.argwhere(own).mean(axis=0) + 0.5
                misses.append(np.hypot(x - corners[[0, 2]].mean(), y - corners[[1, 3]].mean()) / size)
        assert np.array_equal(moving[-1], moving[-2])
    # The sprites are polygons and stars: they fill about 0.7 of their boxes.
    assert np.mean(precision) > 0.8
    assert min(precision) > 0.65
    assert np.mean(recall) > 0.65
    assert min(recall) > 0.45
    assert np.median(misses) < 0.03


@pytest.mark.parametrize("pan", [0.0, 0.3])
def test_nothing_moves_where_only_the_camera_does(pan: float) -> None:
    shares = [moving_of(render_clip(s, pan=pan, moving=False, size=80).frames).mean() for s in range(5)]
    assert max(shares) < 0.02


@pytest.mark.parametrize("opacity", [0.5, 1.0])
def test_a_logo_under_a_panning_camera_is_no_motion(opacity: float) -> None:
    kept, logo_moves = [], []
    for seed in range(4):
        clip = render_clip(seed, size=64, pan=0.4, label=seed)
        plain = moving_of(clip.frames)
        logo = np.full((10, 24, 3), 20.0)
        logo[2:8, 2::4] = (240, 200, 40)
        marked = clip.frames.copy()
        marked[:, 52:62, 2:26] = (1 - opacity) * marked[:, 52:62, 2:26] + opacity * logo
        moving = moving_of(marked)
        logo_moves.append(moving[:, 52:62, 2:26].mean())
        kept.append((moving & plain)[:, :48].sum() / plain[:, :48].sum())
    assert np.mean(logo_moves) < 0.02
    assert np.mean(kept) > 0.85  # what moves still does


def test_a_mover_is_found_under_a_camera_that_zooms_and_turns() -> None:
    side, out = 160, 112
    precision, recall = [], []
    for seed in range(4):
        options = {"size": side, "label": seed, "spread": 0.1}
        clip = render_clip(seed, noise=0.0, **options)
        mover = np.abs(clip.frames.astype(int) - render_clip(seed, noise=0.0, moving=False, **options).frames).max(-1)
        frames, truth = np.empty((16, out, out, 3), np.uint8), np.empty((16, out, out), bool)
        for t in range(16):
            matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 0.8 * t, 0.85 + 0.012 * t)
            matrix[:, 2] -= (side - out) / 2
            frames[t] = cv2.warpAffine(clip.frames[t], matrix, (out, out), borderMode=cv2.BORDER_REFLECT)
            truth[t] = cv2.warpAffine((mover[t] > 0).astype(np.uint8), matrix, (out, out)) > 0
        moving = moving_of(frames)
        precision.append((moving & truth).sum() / moving.sum())
        recall.append((moving & truth).sum() / truth.sum())
    assert np.mean(precision) > 0.55  # of silhouettes, which changes over 5 x 5 pixels reach beyond
    assert np.mean(recall) > 0.85


def test_a_moving_pixel_needs_flow_and_a_change_on_both_sides() -> None:
    frames = np.full((4, 60, 60, 3), 90, np.uint8)
    for t in range(4):
        frames[t, 20:32, 10 + 8 * t : 22 + 8 * t] = 200
    still = np.zeros((3, 2, 3))
    flow = np.zeros((3, 60, 60, 2), np.float32)
    assert not moving_pixels(flow, still, frames).any()  # changes alone
    flow[:, 16:36, :, 0] = 5
    assert not moving_pixels(flow, still, frames[[0] * 4]).any()  # flow alone
    moving = moving_pixels(flow, still, frames)
    grown = np.ones((5, 5), bool)  # changes are means over 5 x 5 pixels
    for t in (1, 2):
        square = (frames[t, ..., 0] == 200) & (frames[t + 1, ..., 0] != 200) & (frames[t - 1, ..., 0] != 200)
        assert moving[t][square].all()
        assert not (moving[t] & ~ndimage.binary_dilation(frames[t, ..., 0] == 200, grown)).any()
    # The first frame has no frame before it, so that the place where the square goes to counts as well.
    assert moving[0][20:32, 22:30].all()
    assert not moving[0][:, 35:].any()


def test_slow_flow_is_no_motion_and_the_limit_grows_with_the_frame() -> None:
    rng = np.random.default_rng(0)
    for side, slow, fast in ((112, 0.24, 0.26), (224, 0.48, 0.52)):
        frames = rng.integers(0, 255, (2, side, side, 3), np.uint8)
        frames[:, : side // 2] = 90  # the usual difference is 0
        flow = np.zeros((1, side, side, 2), np.float32)
        flow[:, -20:] = (0, slow)
        assert not moving_pixels(flow, np.zeros((1, 2, 3)), frames).any()
        flow[:, -20:] = (0, -fast)
        frames[:, : side * 3 // 4] = 90
        moving = moving_pixels(flow, np.zeros((1, 2, 3)), frames)
        assert moving[:, -18:].mean() > 0.99
        assert not moving[:, : side // 2].any()


def static_by_loops(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    count, height, width, _ = frames.shape
    steady = np.zeros((height, width), bool)
    for y in range(height):
        for x in range(width):
            steady[y, x] = all(int(max(c)) - int(min(c)) <= 4 for c in frames[:, y, x].T)
    return np.asarray(ndimage.binary_opening(steady, np.ones((2, 2)))) & (count > 1)


@pytest.mark.parametrize("seed", range(12))
def test_static_pixels_are_those_of_a_definition_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, height, width = rng.integers(1, 6), rng.integers(1, 12), rng.integers(1, 12)
    base = rng.integers(0, 250, (1, height, width, 3))
    frames = (base + rng.integers(0, rng.choice([5, 6]), (count, height, width, 3))).astype(np.uint8)
    frames[:, rng.random((height, width)) < 0.2] += rng.integers(0, 9, (count, 1, 3), np.uint8)
    assert np.array_equal(static_pixels(frames), static_by_loops(frames))


def test_four_levels_are_static_and_five_or_one_channel_or_one_pixel_are_not() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 12, 14, 3), np.uint8)
    frames[:, 2:5, 3:7] = 100
    frames[3, 2:5, 3:7] = 104
    frames[:, 8, 9] = 50
    expected = np.zeros((12, 14), bool)
    expected[2:5, 3:7] = True
    assert np.array_equal(static_pixels(frames), expected)
    frames[5, 4, 3:7, 2] = 99
    expected[4] = False
    assert np.array_equal(static_pixels(frames), expected)


def compressed(frames: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """Through H.264 at its usual quality, and to 112 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([cv2.resize(frame, (112, 112), interpolation=cv2.INTER_AREA) for frame in decoded])


def test_a_logo_and_bars_survive_compression(tmp_path: Path) -> None:
    frames = render_clip(3, size=256, pan=0.3, noise=4.0).frames.copy()
    frames[:, 48:96, 16:80] = np.array([[230, 60, 50], [20, 20, 20]]).repeat(32, 0)[None, None]
    frames[:, :32], frames[:, -32:] = 0, 0
    small = compressed(frames, tmp_path / "a.mp4")
    static, bars = static_pixels(small), letterbox(small)
    logo, black = np.zeros((2, 112, 112), bool)
    logo[21:42, 7:35] = True
    black[:14], black[-14:] = True, True
    assert static[logo].mean() > 0.8
    assert static[black].mean() > 0.9
    assert static[~ndimage.binary_dilation(logo | black, iterations=2)].mean() < 0.002
    assert not bars[~black].any()
    assert bars[[0, -1]].all()
    assert bars[black].mean() > 0.8


def bars_by_hand(frames: NDArray[np.uint8], top: int, bottom: int, left: int, right: int) -> NDArray[np.bool_]:
    expected = np.zeros(frames.shape[1:3], bool)
    expected[:top] = True
    expected[frames.shape[1] - bottom :] = True
    expected[:, :left] = True
    expected[:, frames.shape[2] - right :] = True
    return expected


def barred() -> Iterator[tuple[str, int, int, int, int]]:
    rng = np.random.default_rng(5)
    yield from (("one colour", 9, 7, 0, 0), ("one colour", 0, 0, 5, 0), ("one colour", 0, 0, 0, 0))
    yield from (("one colour", 18, 18, 0, 1), ("sides first", 6, 5, 8, 3), ("sides last", 6, 5, 8, 3))
    for _ in range(8):
        yield "one colour", *(int(n) for n in rng.integers(0, 13, 4))


@pytest.mark.parametrize(("how", "top", "bottom", "left", "right"), list(barred()))
def test_bars_are_found_to_the_line(how: str, top: int, bottom: int, left: int, right: int) -> None:
    rng = np.random.default_rng(top)
    height, width = 40, 60
    frames = rng.integers(0, 256, (5, height, width, 3), np.uint8)
    sides = [(slice(None), slice(0, left)), (slice(None), slice(width - right, None))]
    ends = [(slice(0, top),), (slice(height - bottom, None),)]
    colours = [10, 10, 10, 10] if how == "one colour" else [200, 120, 10, 60]
    order = [*zip(ends, colours[2:], strict=True), *zip(sides, colours[:2], strict=True)]
    for place, colour in order[::-1] if how == "sides first" else order:
        frames[(slice(None), *place)] = colour
    assert np.array_equal(letterbox(frames), bars_by_hand(frames, top, bottom, left, right))


def test_a_bar_may_be_uneven_by_eight_levels_in_all_and_no_more() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), np.uint8)
    frames[:, :4] = 100
    frames[2, 1, 7, 0] = 108
    assert letterbox(frames).sum() == 4 * 20
    frames[2, 3, 7, 0] = 99  # each line alone would do
    assert letterbox(frames).sum() == 3 * 20
    frames[1, 0, 0, 2] = 109
    assert not letterbox(frames).any()


def test_no_bar_is_longer_than_45_percent_of_a_side() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 20, 3), np.uint8)
    frames[:, :18] = 0
    assert letterbox(frames).sum() == 18 * 20
    frames[:, 18] = 0
    assert not letterbox(frames).any()
    for colour in (0, 130, 255):
        assert not letterbox(np.full((4, 40, 20, 3), colour, np.uint8)).any()
    assert not letterbox(np.zeros((1, 1, 1, 3), np.uint8)).any()
