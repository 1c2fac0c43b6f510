"""The commands that compare methods: `evaluate`, `reproduce` and `compare`. torch is loaded only when there is work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.cli.names import file_names
from aosa_fast.cli.options import (
    DATA,
    DEVICE_HELP,
    DEVICES,
    MODELS,
    Resize,
    check_specs,
    option,
    read_config,
    with_config_options,
)
from aosa_fast.cli.terminal import consoles
from aosa_fast.libraries import check_libraries, check_opencv

_METHODS = (
    "Methods, by commas or repeated: NAME[@CLIPS][:FIELD=VALUE...], such as aosa:partners=0 or step@24; NAME as in "
    "explain --method."
)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(evaluate)
    app.command(no_args_is_help=True)(reproduce)
    app.command(no_args_is_help=True)(compare)


@with_config_options(without=("method", "stride", "box", "check", "seed", "samples", "compat"))
def evaluate(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA)] = "rendered",
    model: Annotated[str, option(MODELS, "what", metavar="SPEC")] = "demo",
    methods: Annotated[
        list[str] | None, option(f"{_METHODS} Default: all but step and attention-rollout.", "what", metavar="METHODS")
    ] = None,
    metrics: Annotated[
        str,
        option(
            "deletion (and insertion), pointing (S-PT, energy, IoU; where there are boxes), taylor (first-order scores "
            "against exact ones), sanity (cascade randomisation).",
            "what",
            metavar="METRICS",
        ),
    ] = "deletion,pointing",
    target: Annotated[str, option("The class to explain.", "what", metavar="label|pred")] = "label",
    annotations: Annotated[
        str | None, option("Boxes (pyannot.pkl), labels or splits of the data, where they are not in it.", "data")
    ] = None,
    split: Annotated[str | None, option("Which split of the data, such as test01.", "data")] = None,
    limit: Annotated[int | None, option("How many clips. Default: all; 200 of the rendered.", "data", min=1)] = None,
    per_class: Annotated[int | None, option("How many clips of each class.", "data", min=1)] = None,
    seed: Annotated[
        int, option("Of the choice of clips (of rendered:SEED its own), and of all else that is random.", "data", min=0)
    ] = 0,
    device: Annotated[str, option(DEVICE_HELP, "how", metavar=DEVICES)] = "auto",
    stride: Annotated[
        int | None, option("Distance of the anchors, pixels. Default: 8 for 112 pixels, scaled.", "how", min=1)
    ] = None,
    box: Annotated[
        str | None,
        option("Side of the occluding box, pixels. Default: 16 for 112 pixels, scaled.", "how", metavar="SIDE|HxW"),
    ] = None,
    radius_px: Annotated[
        float | None, option("Radius of the pointing game. Default: 7 for 112 pixels, scaled.", "how", min=0)
    ] = None,
    block: Annotated[int, option("Clips explained together.", "how", min=1)] = 4,
    retry: Annotated[bool, option("Try clips again that failed in an earlier run.", "data")] = False,
    out: Annotated[Path, option("Folder for the results; a later run goes on there.", "out", metavar="DIR")] = Path(
        "out/evaluate"
    ),
    **options: Any,
) -> None:
    """Measure methods on DATA: deletion, insertion and pointing, with intervals, a table and curves.

    [bold]Examples[/bold]

    aosa-fast evaluate                                          the rendered clips and the embedded model

    aosa-fast evaluate ucf101-24:UCF-101 --annotations pyannot.pkl --model resnet3d:r3d50:FILE:classInd.txt

    aosa-fast evaluate clips.csv --model torchvision:r3d_18 --methods "aosa-approx,aosa-approx:relu=none,random"

    Interrupted, it goes on where it stopped; methods and clips can be added to a folder later.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", "matplotlib", *(["skimage"] if "sanity" in metrics else []), extra="evaluate")
    check_opencv()
    check_specs(data, [model], extra="evaluate")
    from aosa_fast.cli.run_evaluate import EvaluationRequest, run_evaluate

    request = EvaluationRequest(
        data=data, model=model, methods=methods or [], metrics=metrics, target=target, annotations=annotations,
        split=split, limit=limit, per_class=per_class, seed=seed, device=device, radius=radius_px, block=block,
        retry=retry, out=out, stride=stride, box=box, config=read_config({**options, "seed": seed}),
    )  # fmt: skip
    run_evaluate(request, *consoles())


def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="I to VII, or 1 to 7.")],
    data: Annotated[str, option(DATA, "data", metavar="DATA")] = "rendered",
    model: Annotated[
        list[str] | None,
        option(
            f"For a column of the paper's: SPEC or COLUMN=SPEC, repeated; COLUMN such as R3D. SPEC: {MODELS}",
            "what",
            metavar="[COLUMN=]SPEC",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        option(f"{_METHODS} Default: the table's, aosa-path, random and centre.", "what", metavar="METHODS"),
    ] = None,
    annotations: Annotated[str | None, option("As in evaluate.", "data")] = None,
    split: Annotated[str | None, option("As in evaluate.", "data")] = None,
    limit: Annotated[
        int | None, option("How many clips. Default: all; 200 of the rendered; 3 for V.", "data", min=1)
    ] = None,
    per_class: Annotated[int | None, option("How many clips of each class.", "data", min=1)] = None,
    seed: Annotated[
        int, option("Of the choice of clips (of rendered:SEED its own), and of all else that is random.", "data", min=0)
    ] = 0,
    device: Annotated[str, option(DEVICE_HELP, "how", metavar=DEVICES)] = "auto",
    out: Annotated[Path | None, option("Folder. Default: out/table-TABLE.", "out", metavar="DIR")] = None,
) -> None:
    """Run a table of the paper with the paper's settings, and print it beside the paper's numbers.

    Without --model it runs on the embedded networks, where only the order of the methods can be compared.

    [bold]Example[/bold]

    aosa-fast reproduce I --data ucf101:UCF-101 --split test01 --model R3D=resnet3d:r3d50:FILE:classInd.txt
    """
    check_opencv()
    check_specs(data, model or [], extra="evaluate")
    from aosa_fast.cli.run_evaluate import ReproduceRequest, run_reproduce

    request = ReproduceRequest(
        table=table, data=data, models=model or [], methods=methods or [], annotations=annotations, split=split,
        limit=limit, per_class=per_class, seed=seed, device=device, out=out,
    )  # fmt: skip
    run_reproduce(request, *consoles())


@with_config_options(without=("method", "stride", "box", "check", "samples", "compat"))
def compare(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video or a folder of frames.")],
    model: Annotated[str, option(MODELS, "what", metavar="SPEC")] = "demo",
    methods: Annotated[
        list[str] | None,
        option(
            f"{_METHODS} Default: grad-cam, osa, smoothgrad, aosa, aosa-approx, aosa-path.", "what", metavar="METHODS"
        ),
    ] = None,
    target: Annotated[
        str, option("The class to explain: pred, an index, or a name.", "what", metavar="CLASS")
    ] = "pred",
    device: Annotated[str, option(DEVICE_HELP, "how", metavar=DEVICES)] = "auto",
    start: Annotated[
        str, option("First frame: a number, seconds such as 1.5s, or center.", "clip", metavar="N|SECONDSs|center")
    ] = "center",
    resize: Resize = None,
    columns: Annotated[int, option("How many frames are shown.", "out", min=1, max=16)] = 4,
    stride: Annotated[int | None, option("As in evaluate.", "how", min=1)] = None,
    box: Annotated[str | None, option("As in evaluate.", "how", metavar="SIDE|HxW")] = None,
    out: Annotated[
        Path | None, option("The picture. Default: out/CLIP.compare.png.", "out", metavar="FILE.png")
    ] = None,
    **options: Any,
) -> None:
    """Explain CLIP with several methods, and put the maps into one picture, a row per method."""
    from aosa_fast.cli.run_evaluate import CompareRequest, run_compare

    request = CompareRequest(
        clip=clip, model=model, methods=methods or [], target=target, device=device, start=start, columns=columns,
        resize=resize, stride=stride, box=box,
        out=out or Path("out") / f"{file_names([clip.resolve().stem])[0]}.compare.png",
        config=read_config(options),
    )  # fmt: skip
    run_compare(request, *consoles())
