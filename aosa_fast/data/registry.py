"""The kinds of data sets that DATA means, one record each: opening, help and listings use them."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.registry import Registry, or_list


@dataclass(frozen=True)
class DataKind:
    """A kind of data sets.

    Attributes:
        name: what DATA begins with, before the first colon.
        spec: how it is written.
        help: one sentence for listings.
        open: "PACKAGE.MODULE:FUNCTION", a function of what follows the colon that returns a `Dataset`; where the kind
            takes them, it has the arguments `annotations`, a path or None, and `split`, a text or None.
        is_path: whether what follows the colon is given to it as a path, rather than as a text.
        is_place: the same, and it may be an address: as a `Path` or an `aosa_fast.addresses.Address`.
        takes: among "annotations" and "split".
        root: what must follow the colon, for messages; "" where nothing must.
        library: that it needs to be read.
        runs_code: whether opening it runs code that its name chooses.
    """

    name: str
    spec: str
    help: str
    open: str
    is_path: bool = False
    takes: tuple[str, ...] = ()
    root: str = ""
    library: str = ""
    runs_code: bool = False
    is_place: bool = False


_HERE = "aosa_fast.data"
_LISTS = ("annotations", "split")
_VIDEOS = "ROOT the folder of its videos"
FOLDER, MANIFEST, WEBDATASET = "folder", "manifest", "webdataset"
KINDS = Registry(
    "data",
    (
        DataKind(
            "rendered",
            "rendered[:SEED][:key=value...]",
            "Rendered clips of the embedded model's classes, with boxes.",
            f"{_HERE}.rendered:open_rendered",
            takes=("split",),
            library="skimage",
        ),
        DataKind(
            "planted",
            "planted[:SEED]",
            "Rendered clips with planted shortcuts and wrong labels, to try out an audit.",
            f"{_HERE}.planted:open_planted",
            library="skimage",
        ),
        DataKind("ucf101", "ucf101:ROOT", "UCF101.", f"{_HERE}.ucf101:open_ucf101", True, _LISTS, _VIDEOS),
        DataKind(
            "ucf101-24",
            "ucf101-24:ROOT",
            "UCF101-24, with boxes.",
            f"{_HERE}.ucf101_24:open_ucf101_24",
            True,
            _LISTS,
            _VIDEOS,
        ),
        DataKind("kinetics", "kinetics:ROOT", "Kinetics.", f"{_HERE}.kinetics:open_kinetics", True, _LISTS, _VIDEOS),
        DataKind(
            MANIFEST,
            "manifest:FILE",
            "A csv or Parquet file with a line for each clip; without manifest: where it ends in .csv or .parquet.",
            f"{_HERE}.manifest:open_manifest",
            is_place=True,
        ),
        DataKind(
            "images",
            "images:ROOT",
            "A folder of images for each class; each image is a clip of one frame.",
            f"{_HERE}.folders:open_images",
            root="ROOT the folder of the classes' folders",
            is_place=True,
        ),
        DataKind(
            WEBDATASET,
            "webdataset:SHARDS",
            "Clips in tar files, such as data-{000..009}.tar; without webdataset: where it ends in .tar.",
            f"{_HERE}.webdataset:open_webdataset",
            root="SHARDS a tar file or a pattern like data-{000..009}.tar",
        ),
        DataKind(
            "python",
            "python:PACKAGE.MODULE:FUNCTION",
            "What a user's function without arguments returns: a Dataset.",
            f"{_HERE}.opening:open_python",
            root="PACKAGE.MODULE:FUNCTION a function without arguments",
            runs_code=True,
        ),
        DataKind(
            FOLDER,
            "a file or folder",
            "A folder of clips, or of one such folder for each class, or as Hugging Face's datasets have it; or a "
            "manifest. It may be an address, such as s3://bucket/folder.",
            f"{_HERE}.huggingface:open_tree",
            takes=("split",),
            is_place=True,
        ),
    ),
    "aosa_fast.datasets",
)


def list_datasets() -> list[str]:
    """How data are named, ours and those of other packages: what `aosa_fast.data.open_dataset` takes."""
    return KINDS.specs()


def data_help() -> str:
    """The specs of our own kinds, for the command line's help and for messages."""
    return or_list([kind.spec for kind in KINDS.own()])
