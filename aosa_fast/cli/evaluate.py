"""The commands that compare methods: `evaluate`, `reproduce` and `compare`. torch is loaded only when there is work.

A command is a dataclass: its docstring is the help, its fields are the arguments and options.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.cli.names import file_names
from aosa_fast.cli.options import DATA, MODELS, Device, Model, Resize, Start, check_specs, command, option
from aosa_fast.cli.settings import with_settings
from aosa_fast.cli.terminal import consoles
from aosa_fast.config import Config
from aosa_fast.evaluation.metrics import DEFAULT_METRICS, METRICS
from aosa_fast.libraries import check_libraries, check_opencv
from aosa_fast.registry import import_object

_METHODS = (
    "Methods, by commas or repeated: NAME\\[@CLIPS][:FIELD=VALUE...], such as aosa:partners=0 or step@24; NAME as in "
    "explain --method."
)
_METRICS = " ".join(f"{metric.name}: {metric.help}" for metric in METRICS.values())
_SEED = "Seeds the choice of clips and all else that is random; of the rendered clips themselves: rendered:SEED."

Annotations = Annotated[
    str | None, option("Boxes (pyannot.pkl), labels or splits of the data, where they are not in it.", "data")
]
Split = Annotated[str | None, option("Which split of the data to take, such as test01.", "data")]
PerClass = Annotated[int | None, option("How many clips of each class to take.", "data", min=1)]
Seed = Annotated[int, option(_SEED, "data", min=0)]
Stride = Annotated[
    int | None, option("Distance of the anchors, pixels. Default: 8 for 112 pixels, scaled.", "how", min=1)
]
Box = Annotated[
    str | None,
    option("Side of the occluding box, pixels. Default: 16 for 112 pixels, scaled.", "how", metavar="SIDE|HxW"),
]


def _methods(default: str) -> Any:
    return option(f"{_METHODS} Default: {default}.", "what", metavar="METHODS")


def _limit(default: str) -> Any:
    return option(f"How many clips to take. Default: {default}.", "data", min=1)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure methods on DATA: deletion, insertion and pointing, with intervals, a table and curves.

    [bold]Examples[/bold]

    aosa-fast evaluate      the rendered clips and the embedded model

    aosa-fast evaluate ucf101-24:UCF-101 --annotations pyannot.pkl --model SPEC

    aosa-fast evaluate clips.csv --model SPEC --methods aosa,aosa-approx:relu=none

    Interrupted, it goes on where it stopped; methods and clips can be added to a folder later.

    Exit codes: 0 done, 2 bad argument or input.
    """

    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA)] = "rendered"
    model: Model = None
    methods: Annotated[list[str] | None, _methods("all but step and attention-rollout")] = None
    metrics: Annotated[str, option(f"What to measure, by commas. {_METRICS}", "what", metavar="METRIC[,METRIC...]")] = (
        ",".join(DEFAULT_METRICS)
    )
    judge: Annotated[
        str | None,
        option(
            "The network that deletion and insertion ask instead of the explained one, such as a twin of it that was "
            "fine-tuned with random masks (F-Fidelity, arXiv 2410.02970).", "what", metavar="SPEC",
        ),
    ] = None  # fmt: skip
    target: Annotated[
        str, option("The class to explain: the true one, or the model's best.", "what", metavar="label|pred")
    ] = "label"
    annotations: Annotations = None
    split: Split = None
    limit: Annotated[int | None, _limit("all; 200 of the rendered")] = None
    per_class: PerClass = None
    seed: Seed = 0
    device: Device = "auto"
    stride: Stride = None
    box: Box = None
    radius_px: Annotated[
        float | None, option("Radius of the pointing game, pixels. Default: 7 for 112 pixels, scaled.", "how", min=0)
    ] = None
    block: Annotated[int, option("How many clips are explained together.", "how", min=1)] = 4
    retry: Annotated[bool, option("Try clips again that failed in an earlier run.", "data")] = False
    out: Annotated[Path, option("Folder for the results; a later run goes on there.", "out", metavar="DIR")] = Path(
        "out/evaluate"
    )
    config: Config

    def run(self) -> None:
        """Checks what is needed, and does it."""
        needed = [library for name in METRICS if name in self.metrics for library in METRICS[name].libraries]
        check_libraries("pyarrow", "matplotlib", *needed, extra="evaluate")
        check_opencv()
        check_specs(self.data, [self.model, self.judge], extra="evaluate")
        import_object("aosa_fast.cli.run_evaluate:run_evaluate")(self, *consoles())


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Run a table of the paper with the paper's settings, and print it beside the paper's numbers.

    Without --model it runs on the embedded networks, where only the order of the methods can be compared.

    [bold]Example[/bold]

    aosa-fast reproduce I --data ucf101:UCF-101 --split test01 --model R3D=SPEC
    """

    table: Annotated[str, typer.Argument(metavar="TABLE", help="Which table of the paper: I to VII, or 1 to 7.")]
    data: Annotated[str, option(DATA, "data", metavar="DATA")] = "rendered"
    model: Annotated[
        list[str] | None,
        option(
            f"The model for a column of the paper's: SPEC or COLUMN=SPEC, repeated; COLUMN such as R3D. SPEC: {MODELS}",
            "what",
            metavar="[COLUMN=]SPEC",
        ),
    ] = None
    methods: Annotated[list[str] | None, _methods("the table's, aosa-path, and what knows no model")] = None
    annotations: Annotations = None
    split: Split = None
    limit: Annotated[int | None, _limit("all; 200 of the rendered; 3 for V")] = None
    per_class: PerClass = None
    seed: Seed = 0
    device: Device = "auto"
    out: Annotated[
        Path | None,
        option("Folder for the table; a later run goes on there. Default: out/table-TABLE.", "out", metavar="DIR"),
    ] = None

    def run(self) -> None:
        """Checks what is needed, and does it."""
        check_opencv()
        check_specs(self.data, self.model or [], extra="evaluate")
        import_object("aosa_fast.cli.run_evaluate:run_reproduce")(self, *consoles())


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Explain CLIP with several methods, and put the maps into one picture, a row per method."""

    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video or a folder of frames.")]
    model: Model = None
    methods: Annotated[list[str] | None, _methods("grad-cam, osa, smoothgrad, aosa, aosa-approx, aosa-path")] = None
    target: Annotated[str, option("The class to explain: pred, an index, or a name.", "what", metavar="CLASS")] = "pred"
    device: Device = "auto"
    start: Start = "center"
    resize: Resize = None
    columns: Annotated[int, option("How many frames to show.", "out", min=1, max=16)] = 4
    stride: Stride = None
    box: Box = None
    out: Annotated[
        Path | None, option("File for the picture. Default: out/CLIP.compare.png.", "out", metavar="FILE.png")
    ] = None
    config: Config

    def run(self) -> None:
        """Does it."""
        out = self.out or Path("out") / f"{file_names([self.clip.resolve().stem])[0]}.compare.png"
        import_object("aosa_fast.cli.run_evaluate:run_compare")(self, out, *consoles())


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    own = ("method", "stride", "box", "check", "samples", "compat")
    app.command("evaluate")(with_settings(command(Evaluate, (*own, "seed"))))
    app.command("reproduce", no_args_is_help=True)(with_settings(command(Reproduce)))
    app.command("compare", no_args_is_help=True)(with_settings(command(Compare, own)))
