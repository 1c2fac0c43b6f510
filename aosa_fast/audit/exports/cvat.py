"""CVAT for video 1.1: a file for each clip, as a task of CVAT is one video."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from aosa_fast.audit.exports.clips import Audit, ExportedClip
from aosa_fast.audit.exports.tracks import Track

_FILES = 1000  # of a folder
# What XML cannot hold at all.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_cvat(audit: Audit, folder: Path) -> int:
    """Writes GROUP/NUMBER.xml for each clip with a map, and files.csv, which says which file is of which clip.

    A track is a strong tube, with the score as an attribute, in pixels and frames of the source; its label is the class
    that the map explains. Behind its last frame it is outside.
    """
    count = 0
    with (folder / "files.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "id", "path", "tags"])
        for clip in audit.clips():
            if clip.has_map and clip.source is not None:
                name = f"{count // _FILES:04}/{count:06}.xml"
                (folder / name).parent.mkdir(exist_ok=True)
                tree = ElementTree.ElementTree(_annotations(clip, count))
                ElementTree.indent(tree)
                tree.write(folder / name, encoding="utf-8", xml_declaration=True)
                table.writerow([name, clip.row["id"], clip.row["path"], "|".join(clip.tags)])
                count += 1
    return count


def _annotations(clip: ExportedClip, number: int) -> ElementTree.Element:
    source = clip.source
    assert source is not None
    last = int(source.indices[-1])
    size = last + 1 if source.frames is None else max(source.frames, last + 1)
    root = ElementTree.Element("annotations")
    _add(root, "version", "1.1")
    task = _add(_add(root, "meta"), "task")
    facts = {"id": number, "name": clip.row["id"], "size": size, "mode": "interpolation", "overlap": 0}
    for name, value in {**facts, "start_frame": 0, "stop_frame": size - 1, "frame_filter": ""}.items():
        _add(task, name, value)
    label = _add(_add(task, "labels"), "label")
    _add(label, "name", clip.explained)
    attribute = _add(_add(label, "attributes"), "attribute")
    for name, text in {"name": "score", "mutable": "False", "input_type": "text"}.items():
        _add(attribute, name, text)
    for name in ("default_value", "values"):
        _add(attribute, name, "")
    original = _add(task, "original_size")
    _add(original, "width", source.width)
    _add(original, "height", source.height)
    _add(task, "source", Path(clip.row["path"] or clip.row["id"]).name)
    for number, track in enumerate(clip.tracks()):
        _add_track(root, number, track, clip.explained, size)
    return root


def _add_track(root: ElementTree.Element, number: int, track: Track, label: str, size: int) -> None:
    element = ElementTree.SubElement(root, "track", id=str(number), label=_plain(label), source="auto")
    shown = [(frame, box, "0") for frame, box in zip(track.frames.tolist(), track.boxes.tolist(), strict=True)]
    if shown[-1][0] + 1 < size:
        shown.append((shown[-1][0] + 1, shown[-1][1], "1"))
    for frame, corners, outside in shown:
        places = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in corners), strict=True))
        facts = {"frame": str(frame), "outside": outside, "occluded": "0", "keyframe": "1", **places, "z_order": "0"}
        _add(ElementTree.SubElement(element, "box", facts), "attribute", f"{track.score:.6g}").set("name", "score")


def _add(parent: ElementTree.Element, name: str, text: Any = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    if text is not None:
        element.text = _plain(str(text))
    return element


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
