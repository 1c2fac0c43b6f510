"""COCO with videos: the annotations of CocoVID, which plain readers of COCO take for those of single images."""

from __future__ import annotations

from pathlib import Path

from aosa_fast.audit.exports.clips import Audit
from aosa_fast.audit.exports.json_lists import write_lists


def write_coco(audit: Audit, folder: Path) -> int:
    """Writes annotations/instances_default.json: each clip a video, each of its frames that a tube shows in an image.

    Images are called ID/FRAME.jpg, the frame's number with six digits; they are not written, but the folder images is
    there. An annotation's category is the class that the map explains, its score that of the tube, and its instance and
    track the tube.
    """
    (folder / "annotations").mkdir()
    (folder / "images").mkdir()
    categories: dict[str, int] = {}
    path = folder / "annotations" / "instances_default.json"
    lists = ("videos", "images", "annotations", "categories")
    with write_lists(path, *lists, head={"info": {"description": "strongest tubes of an audit"}}) as made:
        tracks = 0
        for clip in audit.clips():
            video = made["videos"].count + 1
            made["videos"].add({"id": video, "name": clip.row["id"], "file_name": clip.row["path"], "tags": clip.tags})
            images: dict[int, int] = {}
            for track in clip.tracks():
                tracks += 1
                category = categories.setdefault(clip.explained, len(categories) + 1)
                for frame, (x0, y0, x1, y1) in zip(track.frames.tolist(), track.boxes.tolist(), strict=True):
                    if frame not in images:
                        images[frame] = made["images"].count + 1
                        source = clip.source
                        assert source is not None  # else there were no tracks
                        made["images"].add(
                            {
                                "id": images[frame],
                                "video_id": video,
                                "frame_id": frame,
                                "file_name": f"{_inside(clip.row['id'])}/{frame:06}.jpg",
                                "height": source.height,
                                "width": source.width,
                            }
                        )
                    made["annotations"].add(
                        {
                            "id": made["annotations"].count + 1,
                            "image_id": images[frame],
                            "video_id": video,
                            "category_id": category,
                            "instance_id": tracks,
                            "track_id": tracks,
                            "segmentation": [],
                            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                            "area": round((x1 - x0) * (y1 - y0), 2),
                            "iscrowd": 0,
                            "score": track.score,
                            "attributes": {"track_id": tracks, "score": track.score},
                        }
                    )
        for name, number in categories.items():
            made["categories"].add({"id": number, "name": name, "supercategory": ""})
        return made["videos"].count


def _inside(id: str) -> str:
    """An id as a path that does not lead out of a folder."""
    return "/".join(part for part in id.split("/") if part not in ("", ".", ".."))
