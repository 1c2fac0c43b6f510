"""Label Studio: tasks with predictions, and the interface that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from aosa_fast.audit.exports.clips import Audit, ExportedClip
from aosa_fast.audit.exports.geometry import Source
from aosa_fast.audit.exports.json_lists import write_list
from aosa_fast.audit.exports.tracks import Track


def write_labelstudio(audit: Audit, folder: Path) -> int:
    """Writes tasks.json and config.xml, the labelling interface for them.

    A task's data are `video`, the path or address of the clip, `id`, `label`, `tags` and `findings`; its prediction is
    the model's class as a choice, with its probability as the score, and the strongest tubes as `videorectangle`
    regions in percent of the frame, frames counted from 1.
    """
    names = set(audit.class_names or ())
    with write_list(folder / "tasks.json") as tasks:
        for clip in audit.clips():
            names.update(name for name in (clip.label, clip.prediction) if name is not None)
            names |= {clip.explained} - {""}
            data = {"video": clip.row["path"], "id": clip.row["id"], "label": clip.label, "tags": ", ".join(clip.tags)}
            data["findings"] = "\n".join(found.text for found in clip.findings)
            task: dict[str, Any] = {"data": data}
            if clip.prediction is not None:
                task["predictions"] = [_prediction(clip, f"{audit.run['identity']['model']}")]
            tasks.add(task)
    ElementTree.ElementTree(_interface(sorted(names))).write(folder / "config.xml", encoding="utf-8")
    return tasks.count


def _prediction(clip: ExportedClip, model: str) -> dict[str, Any]:
    result: list[dict[str, Any]] = [
        {
            "id": "class",
            "from_name": "class",
            "to_name": "video",
            "type": "choices",
            "value": {"choices": [clip.prediction]},
        }
    ]
    for number, track in enumerate(clip.tracks(), 1):
        assert clip.source is not None  # else there were no tracks
        result.append(_region(number, track, clip.source, clip.explained))
    return {"model_version": model, "score": clip.row["probability"], "result": result}


def _region(number: int, track: Track, source: Source, label: str) -> dict[str, Any]:
    boxes = 100 * track.boxes / [source.width, source.height, source.width, source.height]
    sequence = []
    for frame, (x0, y0, x1, y1) in zip(track.frames.tolist(), boxes.tolist(), strict=True):
        place = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}
        time = {} if source.fps is None else {"time": frame / source.fps}
        sequence.append({"frame": frame + 1, "enabled": True, **place, **time})
    sequence[-1]["enabled"] = False  # it ends here, and is not drawn on
    value: dict[str, Any] = {"sequence": sequence, "labels": [label]}
    if source.frames is not None:
        value["framesCount"] = source.frames
        if source.fps is not None:
            value["duration"] = source.frames / source.fps
    return {
        "id": f"tube-{number}",
        "from_name": "box",
        "to_name": "video",
        "type": "videorectangle",
        "value": value,
        "score": track.score,
    }


def _interface(names: list[str]) -> ElementTree.Element:
    view = ElementTree.Element("View")
    for value in ("$id", "$tags", "$findings"):
        ElementTree.SubElement(view, "Header", value=value, size="5")
    ElementTree.SubElement(view, "Video", name="video", value="$video")
    ElementTree.SubElement(view, "VideoRectangle", name="box", toName="video")
    for tag, name, inner in (("Labels", "tube", "Label"), ("Choices", "class", "Choice")):
        choices = ElementTree.SubElement(view, tag, name=name, toName="video")
        for one in names:
            ElementTree.SubElement(choices, inner, value=one)
    return view
