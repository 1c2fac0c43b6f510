"""The formats that an audit can be exported to, one record each: the command and its help are made of them."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.registry import Registry


@dataclass(frozen=True)
class Export:
    """A format.

    Attributes:
        name: what --to takes.
        help: one sentence for listings: what is written, and who reads it.
        write: "PACKAGE.MODULE:FUNCTION", a function of an `aosa_fast.audit.exports.clips.Audit` and an empty folder
            that writes it there and returns how many clips it has.
        load: how the result is opened, for the end of the command; DIR stands for the folder.
    """

    name: str
    help: str
    write: str
    load: str


_HERE = "aosa_fast.audit.exports"
EXPORTS = Registry(
    "to",
    (
        Export(
            "fiftyone",
            "FiftyOne: labels, predictions, time findings and a signed heatmap for each frame.",
            f"{_HERE}.fiftyone:write_fiftyone",
            'fiftyone.Dataset.from_dir(dataset_dir="DIR", dataset_type=fiftyone.types.FiftyOneDataset)',
        ),
        Export(
            "cvat",
            "CVAT for video 1.1: the strongest tubes of each clip as tracks, a file for each clip.",
            f"{_HERE}.cvat:write_cvat",
            "in a task of the clip: Upload annotations, CVAT 1.1, the file that DIR/files.csv names",
        ),
        Export(
            "labelstudio",
            "Label Studio: tasks with the prediction and the strongest tubes as regions.",
            f"{_HERE}.labelstudio:write_labelstudio",
            "a project with the labelling interface DIR/config.xml, and DIR/tasks.json imported",
        ),
        Export(
            "hf",
            "Hugging Face datasets: Parquet with all measures, and the videos by their path.",
            f"{_HERE}.huggingface:write_huggingface",
            'datasets.load_dataset("DIR", split="train")',
        ),
        Export(
            "coco",
            "COCO with videos and tracks (CocoVID): the strongest tubes, frame by frame.",
            f"{_HERE}.coco:write_coco",
            'datumaro.Dataset.import_from("DIR", "coco_instances")',
        ),
        Export(
            "csv",
            "A table of all clips with their measures and findings, without maps.",
            f"{_HERE}.csv_table:write_csv",
            'pandas.read_csv("DIR/clips.csv")',
        ),
    ),
)
