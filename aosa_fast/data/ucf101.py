"""UCF101 in its two layouts, with its official splits."""

from __future__ import annotations

from pathlib import Path

from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.folders import check_folder, class_folders, clip_name, list_clips, listed_clips
from aosa_fast.data.ucf_lists import class_of, find, group_of, read_annotations, read_classes, read_list, read_split
from aosa_fast.errors import InputError

_VIDEO_FOLDERS = ("UCF-101", "UCF101", "jpg", "rgb-images")


def open_ucf101(root: Path, annotations: Path | None, split: str | None) -> Dataset:
    """UCF101.

    Args:
        root: holds Class/v_Class_g01_c01.avi, or Class/v_Class_g01_c01/image_00001.jpg and so on; it may also be the
            folder above, if that folder is called UCF-101, UCF101, jpg or rgb-images.
        annotations: the folder of classInd.txt, trainlist01.txt and testlist01.txt (else they are looked for in `root`
            and in its ucfTrainTestlist); or one such list; or a json as the 3-D ResNet tools make it.
        split: "test01" to "test03" or "train01" to "train03" in the lists; "test" or "train", or the subset's own name,
            in a json; None for every video of the json or the list, or else every video on the disk.

    Returns:
        The videos that are on the disk; the others are counted. Classes are in the order of classInd.txt or the json,
        else sorted.

    Raises:
        InputError: missing lists, lines that break their format, or none of the videos on the disk.
    """
    videos = index_videos(root)
    listed, names = _listed(root, annotations, split, list(videos))
    labels = {name: label for label, name in enumerate(names)}
    unknown = next((video for video in listed if class_of(video) not in labels), None)
    if unknown is not None:
        raise InputError(f"{root}: classes of listed videos must be among the {len(labels)} named; got {unknown}")
    there = [video for video in listed if video in videos]
    samples = [Sample(video, str(videos[video]), labels[class_of(video)], group=group_of(video)) for video in there]
    missing = len(listed) - len(there)
    return listed_clips("ucf101", split, names, samples, missing, root, "the listed videos, Class/NAME")


def index_videos(root: Path) -> dict[str, Path]:
    """The clips in a root by "Class/name", without suffix; of a video and its frames, the frames.

    Raises:
        InputError: there is no folder of clips.
    """
    check_folder(root)
    inner = next((root / name for name in _VIDEO_FOLDERS if (root / name).is_dir()), root)
    clips = [clip for folder in class_folders(inner) for clip in list_clips(folder)]
    if not clips:
        raise InputError(f"{inner}: must hold one folder of videos or frame folders per class; it holds none")
    out: dict[str, Path] = {}
    for clip in clips:
        # A folder of frames comes before its video, by name.
        out.setdefault(f"{clip.parent.name}/{clip_name(clip)}", clip)
    return out


def _listed(
    root: Path, annotations: Path | None, split: str | None, whole: list[str]
) -> tuple[list[str], tuple[str, ...]]:
    """The wanted videos and the names of the classes."""
    if annotations is not None and not annotations.exists():
        raise InputError(f"{annotations}: must exist; there is no such file or folder")
    if annotations is not None and annotations.suffix.lower() == ".json":
        return read_annotations(annotations, split)
    folders = [root] if annotations is None else [annotations if annotations.is_dir() else annotations.parent, root]
    listed = whole
    if annotations is not None and annotations.is_file():
        if split is not None:
            raise InputError(f"split must be left out where annotations is one list, {annotations}; got {split}")
        listed = read_list(annotations)
    elif split is not None:
        listed = read_split(split, folders, " or ".join(map(str, folders)))
    class_list = find("classInd.txt", *folders)
    names = read_classes(class_list) if class_list else tuple(sorted({class_of(video) for video in [*whole, *listed]}))
    return listed, names
