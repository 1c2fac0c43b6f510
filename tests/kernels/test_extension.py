"""What the C++ extension checks by itself: nothing that it is given leads it out of its arrays."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

from aosa_fast import _C

# All sizes differ, so that none is taken for another.
B, C, T, H, W, N, K1, ROWS, CELL, RADIUS = 2, 5, 3, 7, 9, 6, 4, 8, 10, 6


def floats(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def ints(*shape: int) -> Any:
    return np.zeros(shape, np.int32)


def level(height: int, width: int, coarser: int = 1) -> tuple[tuple[Any, Any], ...]:
    """The tables of a level of the pyramid; the coarsest has no taps of a coarser one."""
    sizes = ((1, height), (2, width), (coarser, height), (coarser, width))
    return tuple((ints(*size), floats(*size)) for size in sizes)


VIDEO, BOXES, MEMBERS, PICTURES = floats(B, C, T, H, W), ints(B, N, T, 4), ints(B, N, K1), floats(B, T, H, W)
FRAMES, GREY, PLANES = (np.zeros(shape, np.uint8) for shape in ((B, T, H, W, 3), (B, T, H, W), (B, 2 * T, H, W, 11)))
NOISE = floats(ROWS, T, 2 * RADIUS + 1, 2 * RADIUS + 1)
# Arguments by name, and which axes of which arrays may be of any length (None: the array may have more axes).
CALLS: dict[str, tuple[list[Any], set[tuple[int, int | None]]]] = {
    "normalize_frames": ([FRAMES, floats(3), floats(3), floats(B, 3, T, H, W)], {(1, None), (2, None)}),
    "grey_frames": ([FRAMES, GREY], set()),
    "conditional_mean": ([VIDEO, VIDEO, 1], set()),
    "field": ([VIDEO, VIDEO, VIDEO, PICTURES, 1, 0], set()),
    "field ": ([VIDEO, VIDEO, floats(C), PICTURES, 1, 0], set()),
    "tube_scores": ([PICTURES, BOXES, MEMBERS, floats(B, N)], {(0, 2), (0, 3), (2, 2)}),
    "saliency_map": ([floats(B, N), BOXES, MEMBERS, PICTURES, ints(B, T, H, W)], {(2, 2)}),
    "tube_overlaps": ([PICTURES, BOXES, MEMBERS, floats(B, N, N), CELL], {(0, 2), (0, 3), (2, 2)}),
    "occlude": (
        [PLANES, PLANES, BOXES, ints(ROWS, K1), ints(ROWS), np.zeros((ROWS, *PLANES.shape[1:]), np.uint8), T],
        {(2, 1), (3, 1)},
    ),
    "occlude_sampled": (
        [VIDEO, VIDEO, BOXES, ints(ROWS, K1), ints(ROWS), NOISE, floats(ROWS, C, T, H, W), RADIUS],
        {(2, 1), (3, 1)},
    ),
    "farneback": (
        [GREY, floats(B, T - 1, H, W, 2), [level(4, 5, 0), level(H, W)], floats(3, 5), floats(4), 2, 1],
        {(4, None)},
    ),
}


def call(name: str, arguments: list[Any]) -> None:
    getattr(_C, name.strip())(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments), 1)


def misshapen(array: Any) -> dict[int | None, list[Any]]:
    """With another number of axes (None), or with one that is longer or shorter."""
    found: dict[int | None, list[Any]] = {None: [array[None], *([array[0].copy()] if array.ndim > 1 else [])]}
    for axis, size in enumerate(array.shape):
        longer = np.concatenate([array, array.take([0], axis)], axis) if size else None
        found[axis] = [a for a in (longer, array.take(range(size - 1), axis)) if a is not None]
    return found


@pytest.mark.parametrize("name", CALLS)
def test_no_array_may_have_another_shape(name: str) -> None:
    arguments, free = CALLS[name]
    call(name, arguments)
    for place, array in enumerate(arguments):
        for axis, others in misshapen(array).items() if isinstance(array, np.ndarray) else ():
            for other in others:
                changed = [*arguments[:place], other, *arguments[place + 1 :]]
                if (place, axis) in free:
                    call(name, changed)
                else:
                    with pytest.raises(ValueError, match="must"):
                        call(name, changed)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("part", [0, 1])
def test_no_table_of_a_pyramid_may_have_another_shape(number: int, part: int) -> None:
    arguments = CALLS["farneback"][0]
    coarse, fine = arguments[2]
    for other in chain.from_iterable(misshapen(fine[number][part]).values()):
        table = (other, fine[number][1]) if part == 0 else (fine[number][0], other)
        with pytest.raises(ValueError, match=r"index and weight must be \(taps, size\)"):
            call("farneback", [*arguments[:2], [coarse, (*fine[:number], table, *fine[number + 1 :])], *arguments[3:]])


def test_levels_of_a_pyramid_fit_the_frame_and_one_another() -> None:
    arguments = CALLS["farneback"][0]
    coarse, fine = level(4, 5, 0), level(H, W)
    mixed = level(H + 1, W), level(H, W + 1)
    refused = {
        "the last level must have the size of the frames": ([], [coarse], [level(H, 5, 0)], [level(4, W, 0)]),
        "a level must have four tables": ([coarse[:3]], [(*coarse, coarse[0])]),
        "a table must be": ([((*coarse[0], floats(1)), *coarse[1:])], [((coarse[0][1], coarse[0][1]), *coarse[1:])]),
        "a level must not be empty": ([level(0, 5, 0)], [level(4, 0, 0)]),
        "a level must not be larger": ([level(H + 1, 5, 0)], [level(4, W + 1, 0)]),
        "tables of a level must have one size": (
            [coarse, (*fine[:2], mixed[0][2], fine[3])],
            [coarse, (*fine[:3], mixed[1][3])],
        ),
        "indices must lie inside the axis": (
            [(*coarse[:2], level(4, 5)[2], coarse[3])],
            [(*coarse[:3], level(4, 5)[3])],
        ),
    }
    for rule, cases in refused.items():
        for levels in cases:
            with pytest.raises(ValueError, match=rule):
                call("farneback", [*arguments[:2], levels, *arguments[3:]])
    for number, size in enumerate((H, W, 4, 5)):
        for index, holds in ((size - 1, True), (size, False), (-1, False)):
            changed = level(H, W)
            changed[number][0][0, -1] = index
            if holds:
                call("farneback", [*arguments[:2], [coarse, changed], *arguments[3:]])
            else:
                with pytest.raises(ValueError, match="indices must lie inside the axis"):
                    call("farneback", [*arguments[:2], [coarse, changed], *arguments[3:]])


def test_frames_of_a_flow_are_not_empty() -> None:
    *_, weights, inverse, winsize, iterations = CALLS["farneback"][0]
    one = [np.zeros((1, 1, 1, 1), np.uint8), floats(1, 0, 1, 1, 2), [level(1, 1, 0)], weights, inverse, 1, 1]
    call("farneback", one)
    for axis in (1, 2, 3):
        frames = one[0].take([], axis)
        flow = floats(1, 0, *frames.shape[2:], 2)
        with pytest.raises(ValueError, match="frames must not be empty"):
            call("farneback", [frames, flow, [], weights, inverse, winsize, iterations])


# Name, place of an argument, where in it, the largest or smallest value that it may have, and the next.
EDGES = [
    ("conditional_mean", 2, None, 0, -1),
    ("field", 4, None, 0, -1),
    ("field", 5, None, 0, -1),
    ("field", 5, None, 3, 4),
    ("tube_overlaps", 4, None, 1, 0),
    ("tube_overlaps", 4, None, (2**31 - 1) // W, (2**31 - 1) // W + 1),
    ("farneback", 5, None, 1, 0),
    ("farneback", 6, None, 1, 0),
    *(
        (name, place, (-1, -1, -1, corner), edge, edge + step)
        for name, place, cell in (
            ("tube_scores", 1, 1),
            ("saliency_map", 1, 1),
            ("tube_overlaps", 1, CELL),
            ("occlude", 2, 1),
            ("occlude_sampled", 2, 1),
        )
        for corner in range(4)
        for edge, step in ((0, -1), ((W, H, W, H)[corner] * cell, 1))
        if edge or corner < 2
    ),
    *(
        (name, place, -1, edge, edge + step)
        for name, place, count in (
            ("tube_scores", 2, N),
            ("saliency_map", 2, N),
            ("tube_overlaps", 2, N),
            ("occlude", 3, N),
            ("occlude_sampled", 3, N),
        )
        for edge, step in ((-1, -1), (count - 1, 1))
    ),
    *(
        (name, 4, -1, edge, edge + step)
        for name in ("occlude", "occlude_sampled")
        for edge, step in ((0, -1), (B - 1, 1))
    ),
]


@pytest.mark.parametrize(("name", "place", "where", "last", "beyond"), EDGES)
def test_no_number_may_lead_outside(name: str, place: int, where: Any, last: int, beyond: int) -> None:
    arguments = list(CALLS[name][0])

    def try_with(value: int) -> None:
        changed = value
        if where is not None:
            changed = arguments[place].copy()
            changed[where] = value
        call(name, [*arguments[:place], changed, *arguments[place + 1 :]])

    try_with(last)
    with pytest.raises(ValueError, match="must"):
        try_with(beyond)


def test_planes_are_whole_clips_of_frames() -> None:
    def occlude(planes: int, frames: int) -> None:
        video, boxes = np.zeros((1, planes, 2, 2, 1), np.uint8), ints(1, 1, frames, 4)
        _C.occlude(video, video, boxes, ints(1, 1), ints(1), video.copy(), frames, 1)

    for planes, frames in ((6, 3), (3, 3), (0, 3), (0, 0)):
        occlude(planes, frames)
    for planes, frames in ((7, 3), (1, 0), (2, 3)):
        with pytest.raises(ValueError, match="planes must be whole clips of frames"):
            occlude(planes, frames)


def test_nothing_may_be_given() -> None:
    call("tube_overlaps", [floats(B, T, 0, 0), BOXES, MEMBERS, floats(B, N, N), 1])
    call("normalize_frames", [FRAMES[:0], floats(3), floats(3), floats(0, 3, T, H, W)])
