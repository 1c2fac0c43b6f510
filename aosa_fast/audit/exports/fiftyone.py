"""FiftyOne: a data set in its own form on disk, `fiftyone.types.FiftyOneDataset`, for version 1.0 or newer."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.addresses import is_elsewhere
from aosa_fast.audit.exports.clips import Audit, ExportedClip
from aosa_fast.audit.exports.json_lists import JsonList, write_lists
from aosa_fast.audit.measures import MEASURES

_VERSION = "1.0.0"  # of FiftyOne, whose form this is; newer ones bring it up to date themselves
_FIELDS = "fiftyone.core.fields."
_LABELS = "fiftyone.core.labels."
_NUMBERS = ("probability", "label_probability", "score", *MEASURES)
_TEXTS = ("clip_id", "status", "error")


def write_fiftyone(audit: Audit, folder: Path) -> int:
    """Writes metadata.json, samples.json and frames.json; the videos stay where they are.

    A sample has `ground_truth` and `prediction` with its confidence, `time_findings`, the measures, `findings` and
    tags; each of its frames that the model sees a `heatmap`, signed, over the whole frame, with the same range,
    symmetric round 0, in all frames of the clip: all values are within. Frames count from 1. Rendered clips, which have
    no file, are left out.
    """
    name = str(audit.run["identity"].get("data") or "audit")
    (folder / "metadata.json").write_text(json.dumps(_metadata(name), indent=1), encoding="utf-8")
    with (
        write_lists(folder / "samples.json", "samples") as samples,
        write_lists(folder / "frames.json", "frames") as frames,
    ):
        for clip in audit.clips():
            if clip.row["path"] is not None:
                samples["samples"].add(_sample(clip))
                _add_frames(frames["frames"], clip)
        return samples["samples"].count


def _sample(clip: ExportedClip) -> dict[str, Any]:
    row = clip.row
    path = row["path"]
    sample: dict[str, Any] = {
        "_id": _id(row["id"]),
        "filepath": path if is_elsewhere(path) else os.path.abspath(path),
        "tags": clip.tags,
        "metadata": _video(clip),
        "_media_type": "video",
        "_rand": int.from_bytes(hashlib.sha256(row["id"].encode()).digest()[:4]) / 2**32,
        "clip_id": row["id"],
        "status": row["status"],
        "error": row["error"],
        "findings": [found.text for found in clip.findings],
        **{name: row[name] for name in _NUMBERS},
    }
    labels = {"ground_truth": (clip.label, None), "prediction": (clip.prediction, row["probability"])}
    for name, (label, confidence) in labels.items():
        fields = {"label": label, "confidence": confidence}
        sample[name] = None if label is None else _label(row["id"], name, "Classification", **fields)
    times = [
        _label(row["id"], f"time {i}", "TemporalDetection", label=found.tag, support=[first + 1, last + 1])
        for i, (found, first, last) in enumerate(clip.times())
    ]
    sample["time_findings"] = {"_cls": "TemporalDetections", "detections": times} if times else None
    return sample


def _add_frames(frames: JsonList, clip: ExportedClip) -> None:
    if not clip.has_map or clip.source is None:
        return
    maps, id = clip.heatmaps(), clip.row["id"]
    most = float(np.abs(maps).max()) or 1.0
    for frame, values in zip(clip.source.indices.tolist(), maps, strict=True):
        heatmap = _label(id, f"map {frame}", "Heatmap", map=_packed(values), range=[-most, most])
        frames.add(
            {"_id": _id(id, f"frame {frame}"), "_sample_id": _id(id), "frame_number": frame + 1, "heatmap": heatmap}
        )


def _video(clip: ExportedClip) -> dict[str, Any] | None:
    source = clip.source
    if source is None:
        return None
    size = {"frame_width": source.width, "frame_height": source.height, "frame_rate": source.fps}
    duration = source.frames / source.fps if source.frames and source.fps else None
    return {"_cls": "VideoMetadata", **size, "total_frame_count": source.frames, "duration": duration}


def _label(id: str, part: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"_id": _id(id, part), "_cls": kind, "tags": [], **fields}


def _id(*parts: str) -> dict[str, str]:
    """An object id that is the same in each export: 12 bytes."""
    return {"$oid": hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]}


def _packed(values: NDArray[np.float32]) -> dict[str, Any]:
    """An array as FiftyOne stores it: an .npy file, compressed."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode(), "subType": "00"}}


def _metadata(name: str) -> dict[str, Any]:
    """The description of the data set and its fields."""
    return {
        "_id": _id("data set", name),
        "name": name,
        "slug": "audit",
        "version": _VERSION,
        "sample_collection_name": "samples",
        "frame_collection_name": "frames.samples",
        "persistent": False,
        "media_type": "video",
        "group_media_types": {},
        "tags": [],
        "info": {},
        "classes": {},
        "default_classes": [],
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": [
            _field("id", "ObjectId", db_field="_id"),
            _field("filepath", "String"),
            _field("tags", "List", subfield="String"),
            _field("metadata", "EmbeddedDocument", document="fiftyone.core.metadata.VideoMetadata"),
            _field("created_at", "DateTime"),
            _field("last_modified_at", "DateTime"),
            *(_field(field, "String") for field in _TEXTS),
            _field("findings", "List", subfield="String"),
            *(_field(field, "Float") for field in _NUMBERS),
            *(
                _field(field, "EmbeddedDocument", f"{_LABELS}Classification")
                for field in ("ground_truth", "prediction")
            ),
            _field("time_findings", "EmbeddedDocument", f"{_LABELS}TemporalDetections"),
        ],
        "frame_fields": [
            _field("id", "ObjectId", db_field="_id"),
            _field("frame_number", "FrameNumber"),
            _field("created_at", "DateTime"),
            _field("last_modified_at", "DateTime"),
            _field("heatmap", "EmbeddedDocument", f"{_LABELS}Heatmap"),
        ],
        "saved_views": [],
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def _field(
    name: str, kind: str, document: str | None = None, subfield: str | None = None, db_field: str | None = None
) -> dict[str, Any]:
    inner = None if subfield is None else f"{_FIELDS}{subfield}Field"
    return {
        "name": name,
        "ftype": f"{_FIELDS}{kind}Field",
        "embedded_doc_type": document,
        "subfield": inner,
        "fields": [],
        "db_field": db_field or name,
        "description": None,
        "info": None,
        "read_only": False,
    }
