"""The columns of an audit's rows, one row per clip, as Parquet keeps them (version 1 of the schema).

Shares are of the positive part of the map, 0 to 1; null where the map has none, or where a measure has no meaning.
"""

from __future__ import annotations

import pyarrow as pa

from aosa_fast.audit.measures import MEASURES

SCHEMA_VERSION = 1  # of the columns that all rows have; a column may be added without another one
GRID = (8, 8, 8)  # cells along time, height and width of the grids that classes are compared on
WINDOW = 9  # cells a side of the grid round the moving object, each an eighth of the frame

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.float32())

# Which clip, and what became of it.
_CLIP = [
    ("id", pa.string()),  # unique in the data set
    ("path", pa.string()),  # null for rendered clips
    ("start", pa.string()),  # of the part that counts: "12" frames, "1.5s" seconds; null: the beginning
    ("end", pa.string()),
    ("seed", pa.int64()),  # what a rendered clip is rendered from
    ("group", pa.string()),  # the source that it shares with other clips, where the data tell it
    ("status", pa.string()),  # ok, error, quarantined
    ("stage", pa.string()),  # read or explain, where status is not ok
    ("error", pa.string()),
    ("attempts", pa.int32()),
    ("content_hash", pa.string()),  # SHA-256 of the file's content, its first 32 digits
    ("frames", pa.int32()),
    ("height", pa.int32()),  # of the model's input, pixels
    ("width", pa.int32()),
    ("source_height", pa.int32()),  # of the source's frames, upright, pixels; null for rendered clips
    ("source_width", pa.int32()),
    ("source_fps", pa.float64()),
    ("source_frames", pa.int64()),  # how many it has
    ("first_frame", pa.int64()),  # place in the source of the first frame used
    ("looped", pa.int32()),  # frames that repeat the beginning of a short clip
    ("damaged", pa.int32()),  # packets that could not be decoded
    ("replaced", pa.int32()),  # frames for which a neighbour stands in
    ("frame_hash", pa.uint64()),  # of the mean frame: whether each of 8 x 8 cells is brighter than the one to its left
    (
        "appearance",
        pa.binary(),
    ),  # mean colour and change of 8 x 8 cells and of 8 parts of the clip, see `clip.appearance`
]
# What the model says, and what is explained.
_ANSWER = [
    ("data_label", pa.int32()),  # index of the class in the data
    ("label_name", pa.string()),
    ("label", pa.int32()),  # the model's index of it; null where the model does not know it
    ("prediction", pa.int32()),
    ("prediction_name", pa.string()),
    ("probability", pa.float64()),  # softmax, of the prediction
    ("label_probability", pa.float64()),
    ("top5", pa.list_(pa.int32())),
    ("top5_names", _TEXTS),
    ("top5_probabilities", _NUMBERS),
    ("target", pa.int32()),  # the class that the map and the measures explain
    ("static_prediction", pa.int32()),  # on a sample of clips: the best class of one repeated frame
    ("score", pa.float64()),  # of that class, in units of Config.score
]
# Whether the map can be trusted.
_CHECKS = [
    ("uncovered_share", pa.float64()),  # voxels that no tube covers
    ("saturated", pa.bool_()),  # score prob above 0.999: its gradient all but vanishes
    ("positive_share", pa.float64()),  # of the sum of magnitudes
    ("taylor_error", pa.float64()),  # on a sample of clips: mean error of first-order scores over the mean exact drop
    ("taylor_correlation", pa.float64()),
]
_GRIDS = [
    ("grid", _NUMBERS),  # 8 x 8 x 8, time first: share of the positive map in each cell; sums to 1
    ("grid_moving", _NUMBERS),  # the same of the moving pixels
    ("grid_signed", _NUMBERS),  # 8 x 8: sum of the signed map off the boxes, over the sum of all its magnitudes
    ("grid_around", _NUMBERS),  # 9 x 9: share off what moves by offset from it, in eighths of the frame
]
_MAP = [
    ("map_shape", pa.list_(pa.int32())),  # N, T, K+1, H, W, h, w: tubes, frames, members, frame, box
    ("map_tracks", pa.binary()),
    ("map_alive", pa.binary()),
    ("map_members", pa.binary()),
    ("map_scores", pa.binary()),
    ("map_scores_label", pa.binary()),  # with --target both, where the label is not the prediction
    ("map_aggregate", pa.string()),
    ("dense_index", pa.int64()),  # place in the zarr store of this shard
    ("strip", pa.binary()),  # six frames as WebP, where only the model's own code can prepare the clip again
]
_TIMES = [(f"seconds_{name}", pa.float32()) for name in ("read", "flow", "motion", "model", "measures")]

SCHEMA = pa.schema(
    [*_CLIP, *_ANSWER, *_CHECKS, *((name, pa.float64()) for name in MEASURES), *_GRIDS, *_MAP, *_TIMES],
    metadata={"aosa_fast_audit": str(SCHEMA_VERSION)},
)
