"""A map in a few kilobytes: where its boxes went, whom they joined and what each tube scored, to draw it again from.

A map is a function of the anchors' positions in whole pixels, of the members and of the scores; all else follows. The
columns, little-endian throughout, for N tubes, T frames and K+1 members:

- map_shape: N, T, K+1, H, W, h, w: with the frame's and the box's height and width, pixels.
- map_tracks: (T, 2, N) int16, anchors' x and y, pixels, rounded half to even. The first frame has them as they are,
  each further one what it adds to the frame before: most of that is 0, and neighbours have the same, which compresses.
- map_alive: (N, T) bits, the first in the highest bit of the first byte; 0 once an anchor has left, or is not born.
- map_members: (N, K+1) int16, int32 above 32767 tubes; -1 pads.
- map_scores: (N,) float32. map_scores_label: the same of the label's map, or null.
- map_aggregate: sum, mean or eq2, as in `Config`. Eq. 2 needs the whole clip's score as well: it is in the column
  `score`, and follows the N scores of the label's map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.boundary import reading
from aosa_fast.config import AGGREGATES
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.config import Config

WHICH = ("explained", "label")
MOST_VOXELS = 1 << 27  # of a map: 128 frames of 1024 x 1024
_RULE = "must have a map in one piece"
_INT16 = np.dtype("<i2")
_INT32 = np.dtype("<i4")
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class StoredTubes:
    """The tubes of a clip, as a row has them."""

    tracks: NDArray[np.int32]  # (N, T, 2), (x, y) of each anchor, whole pixels; at rest while it is not alive
    alive: NDArray[np.bool_]  # (N, T)
    boxes: NDArray[np.int32]  # (N, T, 4), (x0, y0, x1, y1), pixels, half-open; all 0 where not alive
    members: NDArray[np.int32]  # (N, K+1), rows of `boxes` joined into each tube; -1 pads
    scores: NDArray[np.float32]  # (N,), drop of the score of the explained class when the tube is hidden
    shape: tuple[int, int, int]  # (T, H, W) of the map


def pack_map(
    tracks: NDArray[np.float32],  # (N, T, 2)
    alive: NDArray[np.bool_],  # (N, T)
    members: NDArray[np.int32],  # (N, K+1)
    scores: NDArray[np.float32],  # (N,)
    config: Config,
    height: int,
    width: int,
    label: tuple[NDArray[np.float32], float] | None = None,
) -> dict[str, Any]:
    """The columns of one clip's map, `map_shape` to `map_aggregate`, in plain types; see the module.

    Args:
        tracks: (x, y) of each anchor, pixels, inside the frame.
        alive, members, scores: as in `StoredTubes`.
        config: gives the box and the aggregate.
        height, width: of the frame, pixels.
        label: scores (N,) of the label's map, and the label's score of the whole clip; None: no such map is kept.
    """
    count, frames = alive.shape
    steps = np.rint(tracks).astype(np.int32).transpose(1, 2, 0)
    steps[1:] = np.diff(steps, axis=0)
    of_label = None
    if label is not None:
        of_label = label[0].astype(_FLOAT).tobytes()
        if config.aggregate == "eq2":
            of_label += np.array(label[1], _FLOAT).tobytes()
    return {
        "map_shape": [count, frames, members.shape[1], height, width, *config.box_size],
        "map_tracks": steps.astype(_INT16).tobytes(),
        "map_alive": np.packbits(alive).tobytes(),
        "map_members": members.astype(_member_dtype(count)).tobytes(),
        "map_scores": scores.astype(_FLOAT).tobytes(),
        "map_scores_label": of_label,
        "map_aggregate": config.aggregate,
    }


def load_map(row: Any, target: str = "explained") -> NDArray[np.float32]:
    """Draws the map of a row again: the very values that were measured, where the same kind of device made them.

    Args:
        row: of an audit's clips: a dictionary, a row of pandas, or whatever else gives a column's value for its name.
        target: "explained", the class that the row's measures are about; "label", the label's class, which rows of an
            audit with target=both have beside.

    Returns:
        (T, H, W) float32, signed, in units of the score.

    Raises:
        InputError: the row has no such map, or what it holds is damaged.
    """
    import torch

    from aosa_fast.config import Config
    from aosa_fast.methods.maps import make_map
    from aosa_fast.methods.tubes import Tubes

    if target not in WHICH:
        raise InputError(f"target must be one of {', '.join(WHICH)}; got {target}")
    tubes = row_tubes(row)
    with reading(_value(row, "id"), _RULE, named=False):
        aggregate = _value(row, "map_aggregate")
        if aggregate not in AGGREGATES:
            raise InputError(f"map_aggregate must be one of {', '.join(AGGREGATES)}; got {aggregate}")
        scores, clean = tubes.scores, 0.0
        if target == "label" and (_value(row, "label") is None or _value(row, "label") != _value(row, "target")):
            scores, clean = _label_scores(row, len(scores), aggregate)
        elif aggregate == "eq2":
            score = _value(row, "score")
            if score is None:
                raise InputError("must have the column score for this map; it has none")
            clean = float(score)
        parts = (tubes.tracks, tubes.alive, tubes.boxes, tubes.members)
        packed = Tubes(*(torch.from_numpy(part)[None] for part in parts))
        values, _ = make_map(
            torch.from_numpy(scores)[None],
            torch.tensor([clean], dtype=torch.float32, device="cpu"),
            packed,
            Config(aggregate=aggregate),
            *tubes.shape[1:],
        )
    drawn: NDArray[np.float32] = values[0].numpy()
    return drawn


def check_voxels(shape: Sequence[int]) -> None:
    """Refuses a map (T, H, W) that is announced larger than any model's, before room for it is made.

    Raises:
        InputError: more than `MOST_VOXELS`.
    """
    if math.prod(shape) > MOST_VOXELS:
        raise InputError(f"must have a map of at most {MOST_VOXELS} voxels; got {' x '.join(map(str, shape))}")


def row_tubes(row: Any) -> StoredTubes:
    """The tubes of a row, as for `load_map`.

    Raises:
        InputError: the row has no map, or what it holds is damaged.
    """
    import torch

    from aosa_fast.kernels.tracking import rasterize_boxes

    with reading(_value(row, "id"), _RULE, named=False):
        count, frames, joined, height, width, *box = shape = _shape(row)
        steps = _array(row, "map_tracks", _INT16, (frames, 2, count))
        tracks = np.cumsum(steps, axis=0, dtype=np.int32).transpose(2, 0, 1)
        bits = _array(row, "map_alive", np.dtype("u1"), (-(-count * frames // 8),))
        alive = np.unpackbits(bits, count=count * frames).reshape(count, frames).astype(bool)
        members = _array(row, "map_members", _member_dtype(count), (count, joined)).astype(np.int32)
        scores = _array(row, "map_scores", _FLOAT, (count,)).astype(np.float32)
        if not ((tracks >= 0) & (tracks < (width, height))).all():
            raise InputError(f"map_tracks must be inside of map_shape {shape}; they leave it")
        if not ((members >= -1) & (members < count)).all():
            raise InputError(f"map_members must be from -1 to {count - 1}; some are not")
        tracks = np.ascontiguousarray(tracks)
        places = torch.from_numpy(tracks.astype(np.float32))[None]
        boxes = rasterize_boxes(places, torch.from_numpy(alive)[None], (box[0], box[1]), height, width)
        return StoredTubes(tracks, alive, boxes[0].numpy(), members, scores, (frames, height, width))


def _member_dtype(count: int) -> np.dtype[Any]:
    return _INT16 if count <= np.iinfo(_INT16).max else _INT32


def _label_scores(row: Any, count: int, aggregate: str) -> tuple[NDArray[np.float32], float]:
    if _value(row, "map_scores_label") is None:
        raise InputError("must have a map of its label, as rows of target=both do; it has none")
    with_clean = aggregate == "eq2"
    values = _array(row, "map_scores_label", _FLOAT, (count + with_clean,)).astype(np.float32)
    return values[:count], float(values[-1]) if with_clean else 0.0


def _shape(row: Any) -> list[int]:
    shape = _value(row, "map_shape")
    if shape is None:
        status = _value(row, "status")
        raise InputError(f"must have a map, as rows of maps=keep with status ok do; its status is {status}")
    sizes = [int(size) for size in shape]
    if len(sizes) != 7 or min(sizes) < 1 or max(sizes) > np.iinfo(np.int32).max:
        raise InputError(f"map_shape must be 7 sizes; got {str(sizes)[:80]}")
    check_voxels((sizes[1], *sizes[3:5]))
    return sizes


def _array(row: Any, column: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    value = _value(row, column)
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    is_binary = isinstance(value, bytes | bytearray | memoryview)
    if not is_binary or len(value) != expected:
        found = f"{len(value)} bytes" if is_binary else type(value).__name__
        raise InputError(f"{column} must be {expected} bytes; got {found}")
    return np.frombuffer(value, dtype).reshape(shape)


def _value(row: Any, column: str) -> Any:
    """A column's value; None where there is no such column, or no value: pandas has NaN in place of None."""
    try:
        value = row[column]
    except (KeyError, IndexError):
        return None
    if hasattr(value, "as_py"):  # of pyarrow
        value = value.as_py()
    missing = (isinstance(value, float) and np.isnan(value)) or type(value).__name__ == "NAType"
    return None if missing else value
