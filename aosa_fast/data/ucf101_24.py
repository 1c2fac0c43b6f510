"""UCF101-24: the 24 classes of UCF101 whose actors have boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aosa_fast.boundary import reading
from aosa_fast.data.boxes import Boxes, boxes_from_tubes
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.folders import listed_clips
from aosa_fast.data.pickles import load_plain_pickle
from aosa_fast.data.ucf101 import index_videos
from aosa_fast.data.ucf_lists import class_of, find, group_of, read_split
from aosa_fast.errors import InputError

_NAMES = """
Basketball BasketballDunk Biking CliffDiving CricketBowling Diving Fencing FloorGymnastics GolfSwing HorseRiding
IceDancing LongJump PoleVault RopeClimbing SalsaSpin SkateBoarding Skiing Skijet SoccerJuggling Surfing TennisSwing
TrampolineJumping VolleyballSpiking WalkingWithDog
"""
CLASSES = tuple(_NAMES.split())
"""In the order of their numbers in pyannot.pkl."""

FRAME_SIZE = (320, 240)
"""(width, height) of every video of UCF101, in which the boxes are measured."""


def open_ucf101_24(root: Path, annotations: Path | None, split: str | None) -> Dataset:
    """UCF101-24, with the boxes of everyone who acts.

    Args:
        root: as for UCF101; frames may have been stored in another size than 320x240.
        annotations: pyannot.pkl of the corrected annotations, or its folder; None: it is in `root` or the folder above.
        split: "test01" and so on, from the lists beside the annotations or as for UCF101; None for every video that
            has boxes.

    Returns:
        The videos that have boxes and are on the disk; the others of the split are counted.

    Raises:
        InputError: no pickle, one of another layout, no list, or none of the videos on the disk.
    """
    found = annotations
    if annotations is None or annotations.is_dir():
        found = find("pyannot.pkl", *([root, root.parent] if annotations is None else [annotations]))
    if found is None:
        raise InputError(f"annotations must name pyannot.pkl of UCF101-24; there is none in {annotations or root}")
    boxes = read_boxes(found)
    wanted = [key for key in boxes if class_of(key) in CLASSES]
    if split is not None:
        listed = read_split(split, (found.parent, root, root.parent), f"{root} or at {found}")
        wanted = [video for video in listed if class_of(video) in CLASSES]
    videos = index_videos(root)
    there = [key for key in wanted if key in videos and key in boxes]
    samples = [
        Sample(key, str(videos[key]), CLASSES.index(class_of(key)), boxes=boxes[key], group=group_of(key))
        for key in there
    ]
    missing = len(wanted) - len(there)
    return listed_clips("ucf101-24", split, CLASSES, samples, missing, root, "the annotated videos, Class/NAME")


def read_boxes(path: Path) -> dict[str, Boxes]:
    """The boxes of pyannot.pkl by "Class/video".

    A video has `annotations`, a list of objects with `label`, the class by number or name; `boxes`, (n, 4) x, y,
    width, height at 320x240; and `sf`, the frame of the first box, counted from 0 (`ef`, the frame behind the last,
    says nothing more). Objects of another class than the video's are left out.

    Raises:
        InputError: the file cannot be read, or has another layout.
    """
    content = load_plain_pickle(path)
    rule = f"{path}: must map Class/video to annotations with boxes (n, 4), sf and label"
    if not isinstance(content, dict):
        raise InputError(f"{rule}; got {type(content).__name__}")
    out = {}
    for key, video in content.items():
        if not isinstance(key, str):
            raise InputError(f"{rule}; got a key that is no text: {type(key).__name__}")
        with reading(f"{path}, {key}", "must be annotations with boxes (n, 4), sf and label"):
            tubes = [_tube(entry) for entry in video["annotations"] if _is_of(entry["label"], class_of(key))]
            out[key] = boxes_from_tubes(tubes, FRAME_SIZE)
    return out


def _tube(entry: dict[str, Any]) -> tuple[int, Any]:
    rows = entry["boxes"]
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 4 or not np.isfinite(rows).all():
        raise ValueError(f"boxes {getattr(rows, 'shape', type(rows).__name__)}")
    return int(entry["sf"]), rows


def _is_of(label: Any, class_name: str) -> bool:
    return label == class_name if isinstance(label, str) else CLASSES[int(label)] == class_name
