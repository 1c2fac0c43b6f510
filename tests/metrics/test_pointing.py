from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from aosa_fast import InputError
from aosa_fast.metrics import box_iou, box_share, energy_pointing, pool_pointing, spatial_pointing

T, H, W = 3, 20, 33
NONE = (0, 0, 0, 0)


def peaks(*points: tuple[int, int], height: int = H, width: int = W) -> Tensor:
    """(T, H, W): a map whose maximum in frame t is at points[t] = (x, y)."""
    saliency = torch.linspace(0, 0.5, height * width).reshape(1, height, width).repeat(len(points), 1, 1)
    for t, (x, y) in enumerate(points):
        saliency[t, y, x] = 2.0 + t
    return saliency


def boxes_of(*frames: list[tuple[int, int, int, int]]) -> Tensor:
    """(T, M, 4) int32, padded with empty boxes."""
    most = max(len(frame) for frame in frames)
    return torch.tensor([frame + [NONE] * (most - len(frame)) for frame in frames], dtype=torch.int32)


def hit(x: int, y: int, box: tuple[int, int, int, int], radius: float = 7.0, **size: int) -> bool:
    return bool(spatial_pointing(peaks((x, y), **size), boxes_of([box]), radius=radius).hits[0])


def test_a_worked_example():
    # Frame 0: 5 px right of and 4 px below the box's last pixel (9, 6), distance 6.4: a hit. With x and y swapped, the
    # maximum would be at (10, 14), 8.1 px away: a miss. Frame 1: no box, does not count. Frame 2: (30, 3) is 18 px
    # from the first box and inside of the second.
    saliency = peaks((14, 10), (4, 4), (30, 3))
    boxes = boxes_of([(2, 3, 10, 7)], [], [(5, 0, 13, 4), (28, 2, 32, 5)])
    result = spatial_pointing(saliency, boxes)
    assert (result.hits.tolist(), result.frames.tolist(), result.micro) == ([2.0], [2], 1.0)
    assert result.macro is None
    only_first = spatial_pointing(saliency, boxes[:, :1])
    assert (only_first.hits.tolist(), only_first.frames.tolist(), only_first.micro) == ([1.0], [2], 0.5)
    swapped = boxes[..., [1, 0, 3, 2]]
    assert spatial_pointing(saliency, swapped).hits.tolist() == [0.0]
    assert result.metadata["radius"] == 7.0
    assert result.metadata["ties"] == "mean"
    assert result.metadata["distance"] == "disk to rectangle"


def test_the_tolerance_is_a_disk_about_all_pixels_of_the_box():
    generator = np.random.default_rng(0)
    outcomes, on_the_circle = [], 0
    for _ in range(300):
        x0, y0 = generator.integers(-3, 28), generator.integers(-3, 15)
        box = (int(x0), int(y0), int(x0 + generator.integers(1, 9)), int(y0 + generator.integers(1, 9)))
        x, y, radius = int(generator.integers(W)), int(generator.integers(H)), int(generator.integers(12))
        pixels = [(u, v) for u in range(box[0], box[2]) for v in range(box[1], box[3]) if 0 <= u < W and 0 <= v < H]
        distance = min(((x - u) ** 2 + (y - v) ** 2 for u, v in pixels), default=np.inf)
        assert hit(x, y, box, radius) == (distance <= radius**2)
        outcomes.append(distance <= radius**2)
        on_the_circle += distance == radius**2
    assert 60 < sum(outcomes) < 240
    assert on_the_circle > 3


def test_boxes_outside_of_the_frame_and_inverted_ones_are_none():
    saliency = peaks((W - 1, H - 1))
    for box in ((W, H - 3, W + 4, H), (-5, 0, 0, 9), (3, 4, 3, 9), (9, 9, 2, 15), NONE):
        result = spatial_pointing(saliency, boxes_of([box]), [0])
        assert (result.hits.tolist(), result.frames.tolist()) == ([0.0], [0])
        assert math.isnan(result.micro)
        assert math.isnan(result.macro)
        for measure in (energy_pointing, box_iou, box_share):
            assert measure(saliency, boxes_of([box])).isnan().all()


@pytest.mark.parametrize("empty", [(3, 4, 3, 9), (3, 4, 9, 4), (9, 9, 2, 15), (9, 9, 15, 2), NONE], ids=str)
def test_a_box_without_pixels_attracts_nothing_in_a_frame_with_another(empty):
    assert spatial_pointing(peaks((3, 4)), boxes_of([empty, (28, 15, 33, 20)])).hits.tolist() == [0.0]
    assert spatial_pointing(peaks((28, 15)), boxes_of([empty, (28, 15, 33, 20)])).hits.tolist() == [1.0]


def test_ties_share_the_hit_or_the_first_counts():
    saliency = torch.zeros(2, H, W)
    saliency[0, [1, 1, 15], [30, 2, 3]] = 1  # in order: (2, 1) inside, (30, 1) and (3, 15) far off
    saliency[1] = -4.0  # all of them
    boxes = boxes_of([(0, 0, 4, 3)], [(0, 0, 4, 3)])
    mean = spatial_pointing(saliency, boxes, radius=0)
    assert mean.hits.tolist() == pytest.approx([1 / 3 + 12 / (H * W)])
    assert spatial_pointing(saliency, boxes, radius=0, ties="first").hits.tolist() == [2.0]
    far = boxes_of([(29, 0, 32, 3)], [(29, 0, 32, 3)])
    assert spatial_pointing(saliency, far, radius=0, ties="first").hits.tolist() == [0.0]
    assert spatial_pointing(saliency, far, radius=0).hits.tolist() == pytest.approx([1 / 3 + 9 / (H * W)])


def test_chance_is_what_a_constant_map_gets():
    boxes = boxes_of([(5, 3, 9, 8)], [], [(0, 0, 20, 4), (2, 2, 22, 6)])
    flat = spatial_pointing(torch.zeros(T, H, W), boxes, radius=3)
    other = spatial_pointing(peaks((0, 0), (0, 0), (0, 0)), boxes, radius=3)
    assert other.chance == pytest.approx(flat.micro)
    assert spatial_pointing(torch.zeros(T, H, W), boxes, radius=0).chance == pytest.approx(
        (20 / (H * W) + (80 + 80 - 36) / (H * W)) / 2
    )


def test_micro_and_macro_by_hand():
    # Class "a": clips 0 and 2, 1 + 0 hits in 3 + 1 frames; class "b": clip 1, 2 in 2; class "c": no frame with a box.
    inside, off, box = (2, 2), (30, 18), (0, 0, 5, 5)
    maps = torch.stack(
        [peaks(inside, off, off), peaks(inside, off, inside), peaks(off, off, inside), peaks(inside, inside, inside)]
    )
    boxes = torch.stack(
        [
            boxes_of([box], [box], [box]),
            boxes_of([box], [NONE], [box]),
            boxes_of([box], [NONE], [NONE]),
            boxes_of([NONE], [NONE], [NONE]),
        ]
    )
    result = spatial_pointing(maps, boxes, ["a", "b", "a", "c"])
    assert (result.hits.tolist(), result.frames.tolist()) == ([1.0, 2.0, 0.0, 0.0], [3, 2, 1, 0])
    assert result.micro == pytest.approx(3 / 6)
    assert result.macro == pytest.approx((1 / 4 + 2 / 2) / 2)
    for labels in (torch.tensor([4, 1, 4, 0]), np.array([4, 1, 4, 0]), (4, 1, 4, 0)):
        assert spatial_pointing(maps, boxes, labels).macro == pytest.approx(0.625)
    # Clip by clip, pooled afterwards.
    parts = [spatial_pointing(m, b) for m, b in zip(maps, boxes, strict=True)]
    hits, frames = [float(p.hits) for p in parts], [int(p.frames) for p in parts]
    assert pool_pointing(hits, frames, ["a", "b", "a", "c"]) == pytest.approx((0.5, 0.625))


def test_energy_and_share_by_hand():
    saliency = torch.zeros(T, 4, 5)
    saliency[0, 1, 2], saliency[0, 3, 4], saliency[0, 0, 0] = 3.0, 1.0, -9.0  # -9 is in the box, and does not count
    saliency[1] = 100.0  # a frame without a box
    saliency[2, 2, 1], saliency[2, 2, 3] = 2.0, 4.0
    boxes = boxes_of([(0, 0, 3, 2), (2, 1, 4, 3)], [], [(3, 1, 9, 3)])
    for scale in (1, 1e-3):
        assert energy_pointing(scale * saliency, boxes).tolist() == pytest.approx([(3 + 4) / 10])
    assert box_share(saliency, boxes).tolist() == pytest.approx([(6 + 4 - 1 + 4) / 40])
    assert energy_pointing(-saliency.abs(), boxes).isnan().all()
    assert energy_pointing(torch.full((T, 4, 5), 2.0), boxes).tolist() == pytest.approx(
        box_share(saliency, boxes).tolist()
    )


def test_iou_by_hand():
    saliency = torch.zeros(2, 4, 5)
    boxes = boxes_of([(1, 1, 3, 3)], [])  # 4 pixels: (1, 1), (2, 1), (1, 2), (2, 2)
    saliency[0, 1, 1], saliency[0, 2, 2], saliency[0, 0, 4], saliency[0, 3, 0] = 5, 4, 3, 2
    saliency[1] = 9  # not annotated
    assert box_iou(saliency, boxes).tolist() == pytest.approx([2 / 6])
    perfect = torch.zeros(2, 4, 5)
    perfect[0, 1:3, 1:3] = 1
    assert box_iou(perfect, boxes).tolist() == [1.0]
    assert box_iou(-perfect, boxes).tolist() == [0.0]
    # All equal: the first four of the frame, of which none is in the box; with the box at the start, all of them are.
    assert box_iou(torch.zeros(2, 4, 5), boxes).tolist() == [0.0]
    assert box_iou(torch.zeros(2, 4, 5), boxes_of([(0, 0, 4, 1)], [])).tolist() == [1.0]
    # Pooled over frames: 2 + 4 pixels, and the six largest values are all in the second frame.
    both = boxes_of([(0, 0, 2, 1)], [(0, 0, 4, 1)])
    rising = torch.arange(40.0, 0, -1).reshape(2, 4, 5).flip(0)
    assert box_iou(rising, both).tolist() == pytest.approx([4 / 8])


def test_clips_of_many_sizes_from_anywhere():
    clips = [(2, 20, 33), (3, 12, 9), (1, 7, 40)]
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(*size, generator=generator) for size in clips]
    boxes = [boxes_of([(3, 2, 9, 6), (0, 0, 2, 2)], [(1, 1, 5, 4)]), boxes_of([], [(0, 3, 4, 9)], []), None]
    together = spatial_pointing(maps, boxes, radius=2)
    arrays = [m.numpy() for m in maps], [None if b is None else b.numpy().astype(np.int16) for b in boxes]
    assert together.frames.tolist() == [2, 1, 0]
    assert torch.equal(spatial_pointing(*arrays, radius=2).hits, together.hits)
    for measure in (energy_pointing, box_iou, box_share):
        joined = measure(maps, boxes)
        torch.testing.assert_close(measure(*arrays), joined, equal_nan=True)
        for i in range(2):
            torch.testing.assert_close(measure(maps[i], boxes[i]), joined[i : i + 1])
        assert joined[2].isnan()


@pytest.mark.parametrize(
    ("saliency", "boxes", "options", "message"),
    [
        (torch.zeros(T, H, W), torch.zeros(2, 1, 4).int(), {}, r"^boxes must have shape .* with T=3; got \(2, 1, 4\)$"),
        (torch.zeros(T, H, W), torch.zeros(3, 4).int(), {}, r"^boxes must have shape .*; got \(3, 4\)$"),
        (torch.zeros(2, T, H, W), torch.zeros(3, 1, 4).int(), {}, r"^boxes must be given for each of the 2 clips; got"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4), {}, r"^boxes must be whole numbers; got torch.float32$"),
        (torch.zeros(T, H, W), np.zeros((3, 1, 4)), {}, r"^boxes must be whole numbers; got float64$"),
        (torch.zeros(T, H, W), [[NONE]], {}, r"^boxes must be whole numbers; got list$"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4, dtype=bool), {}, r"^boxes must be whole numbers; got torch.bool$"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4) * 1j, {}, r"^boxes must be whole numbers; got torch.complex64$"),
        (
            [torch.zeros(T, H, W), torch.zeros(2, T, H, W)],
            3 * [None],
            {},
            r"^saliency in a list must be one \(T, H, W\) per clip$",
        ),
        (torch.zeros(H, W), torch.zeros(3, 1, 4).int(), {}, r"^saliency must have shape .*; got \(20, 33\)$"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4).int(), {"ties": "last"}, r"^ties must be mean or first; got last$"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4).int(), {"radius": -1}, r"^radius must be .*at least 0; got -1$"),
        (torch.zeros(T, H, W), torch.zeros(3, 1, 4).int(), {"labels": [1, 2]}, r"labels must be one per clip, 1$"),
    ],
    ids=range(13),
)
def test_bad_arguments_get_one_line(saliency, boxes, options, message):
    with pytest.raises(InputError, match=message) as caught:
        spatial_pointing(saliency, boxes, **options)
    assert "\n" not in str(caught.value)
