"""The commands that audit data sets: `audit`, `audit-report` and `audit-clip`. torch is loaded only when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.cli.options import (
    DATA,
    DEVICE_HELP,
    DEVICES,
    MODELS,
    check_specs,
    option,
    read_config,
    with_config_options,
)
from aosa_fast.cli.terminal import consoles
from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries, check_opencv

_NOT_HERE = (
    "stride", "box", "check", "seed", "samples", "compat", "batch_size", "layer", "cam_weights", "noise_samples",
    "noise", "areas", "cuboid_area", "cuboid_frames", "cuboid_step", "method", "score", "fill", "relu",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(audit)
    app.command("audit-report", no_args_is_help=True)(audit_report)
    app.command("audit-clip", no_args_is_help=True)(audit_clip)


@with_config_options(without=_NOT_HERE)
def audit(
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=DATA)] = None,
    model: Annotated[str, option(MODELS, "what", metavar="SPEC")] = "demo",
    target: Annotated[
        str,
        option(
            "Whose map is measured: pred, the model's best class; true, the label's; both: the best's, and the "
            "label's beside it where they differ.",
            "what",
            metavar="pred|true|both",
        ),
    ] = "pred",
    method: Annotated[str, option("How maps are made.", "how", metavar="aosa-approx|aosa-path|aosa")] = "aosa-approx",
    score: Annotated[
        str, option("As in explain; the logit has a gradient also where the model is sure.", "how", metavar="SCORE")
    ] = "logit",
    fill: Annotated[
        str,
        option("As in explain; the conditional one cannot see what is uniform, such as a tint.", "how", metavar="FILL"),
    ] = "mean",
    relu: Annotated[str, option("As in explain; of aosa-approx.", "how", metavar="RELU")] = "none",
    maps: Annotated[
        str, option("keep: rows hold the map, in some 12 kB; summary: measures only.", "out", metavar="keep|summary")
    ] = "keep",
    dense: Annotated[bool, option("Keep whole maps too, as zarr (needs zarr).", "out")] = False,
    annotations: Annotated[str | None, option("As in evaluate.", "data")] = None,
    split: Annotated[str | None, option("As in evaluate.", "data")] = None,
    limit: Annotated[int | None, option("At most so many clips.", "data", min=1)] = None,
    per_class: Annotated[int | None, option("At most so many clips of each class.", "data", min=1)] = None,
    shard: Annotated[
        str,
        option("Of n parts of the data, the i-th, from 1 on: for job arrays, in one folder.", "data", metavar="I/N"),
    ] = "1/1",
    retry: Annotated[bool, option("Try clips again that failed in an earlier run.", "data")] = False,
    seed: Annotated[int, option("Of the choice of clips, and of all else that is random.", "data", min=0)] = 0,
    stride: Annotated[int | None, option("As in evaluate.", "how", min=1)] = None,
    box: Annotated[str | None, option("As in evaluate.", "how", metavar="SIDE|HxW")] = None,
    check_share: Annotated[
        float, option("Share of the clips whose scores are held against exact ones.", "how", min=0, max=1)
    ] = 0.01,
    batch: Annotated[int, option("Clips explained together.", "how", min=1)] = 8,
    device: Annotated[str, option(DEVICE_HELP, "run", metavar=DEVICES)] = "auto",
    gpus: Annotated[int, option("So many GPUs, a process each; 0: one process, on --device.", "run", min=0)] = 0,
    readers: Annotated[int, option("Processes that read clips; 0: one per core.", "run", min=0)] = 0,
    threads: Annotated[int, option("Of a process that explains; 0: as torch chooses.", "run", min=0)] = 0,
    clip_seconds: Annotated[float, option("Time limit for one clip.", "run")] = 120.0,
    engine: Annotated[
        str, option("Who does the work: this machine, or a Ray cluster.", "run", metavar="local|ray")
    ] = "local",
    address: Annotated[
        str | None, option("Of the Ray cluster, HOST:PORT or auto; without, one is started here.", "run")
    ] = None,
    actors: Annotated[int, option("Ray actors; 0: one per GPU, or one.", "run", min=0)] = 0,
    demo: Annotated[
        bool, option("Audit the embedded networks on clips with planted shortcuts, and say what was found.", "what")
    ] = False,
    demo_clips: Annotated[int, option("With --demo: clips of each audit.", "what", min=60)] = 300,
    out: Annotated[Path, option("Folder for the results; a later run goes on there.", "out", metavar="DIR")] = Path(
        "out/audit"
    ),
    **options: Any,
) -> None:
    """Find what a model looks at when it should not, on all clips of DATA.

    [bold]Examples[/bold]

    aosa-fast audit clips.csv --model torchvision:r3d_18 --out audit      then: aosa-fast audit-report audit

    aosa-fast audit kinetics:FOLDER --model hf:FOLDER --target both --gpus 8

    aosa-fast audit clips.parquet --model python:my.package:make --shard 3/16      one task of a job array

    aosa-fast audit --demo      planted shortcuts: which of them it finds

    Rows are Parquet, one per clip. Interrupted, it goes on where it stopped. Clips that cannot be read or that end
    their process are rows with their error, and stop nothing.

    Exit codes: 0 done, 2 bad argument or input.
    """  # fmt: skip
    check_libraries("pyarrow", *(["sklearn", "skimage"] if demo else []), extra="audit")
    if dense:
        check_libraries("zarr", extra="dense")
    if engine == "ray":
        check_libraries("ray.data", extra="ray")
    check_opencv()
    check_specs(data or "", [model], extra="audit")
    config = read_config({**options, "method": method, "score": score, "fill": fill, "relu": relu, "seed": seed})
    from aosa_fast.cli.run_audit import run_audit, run_demo
    from aosa_fast.config import read_box

    if demo:
        if data is not None:
            raise InputError(f"DATA must be left out with --demo; got {data}")
        run_demo(out, demo_clips, *consoles())
        return
    if data is None:
        raise InputError("DATA must be given, or --demo")
    from aosa_fast.audit.driver import AuditRequest
    from aosa_fast.audit.settings import AuditSettings

    settings = AuditSettings(
        target=target, maps=maps, dense=dense, config=config, stride=stride,
        box=None if box is None else read_box(box), check_share=check_share, batch=batch, seed=seed,
        clip_seconds=clip_seconds,
    )  # fmt: skip
    request = AuditRequest(
        data=data, model=model, out=out, settings=settings, annotations=annotations, split=split, limit=limit,
        per_class=per_class, device=device, gpus=gpus, readers=readers, threads=threads, engine=engine,
        address=address, actors=actors, shard=read_shard(shard), retry=retry,
    )  # fmt: skip
    run_audit(request, *consoles())


def audit_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an audit.")],
    out: Annotated[Path | None, option("The page. Default: DIR/report.html.", "out", metavar="FILE")] = None,
    permutations: Annotated[int, option("Of the tests.", "how", min=99)] = 999,
    seed: Annotated[int, option("Of all that is random.", "how", min=0)] = 0,
    pictures: Annotated[int, option("At most so many filmstrips; 0: none.", "out", min=0)] = 200,
) -> None:
    """Turn an audit's rows into findings, and one page that needs no network; all shards are read.

    Beside the page: findings.parquet and classes.parquet.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", "sklearn", "jinja2", extra="audit")
    from aosa_fast.cli.run_audit import run_report

    run_report(folder, out, permutations, seed, pictures, *consoles())


def audit_clip(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an audit.")],
    clip: Annotated[str, typer.Argument(metavar="ID", help="Of the clip, as in the rows and on the page.")],
    model: Annotated[
        str | None, option("The model, if it has moved or runs code. Default: the audit's.", "what", metavar="SPEC")
    ] = None,
    trust: Annotated[
        bool, option("Load the model that DIR names also where that runs code: python:, .pt2, .pt.", "what")
    ] = False,
    device: Annotated[str, option(DEVICE_HELP, "run", metavar=DEVICES)] = "auto",
    out: Annotated[Path | None, option("Folder. Default: out/ID.", "out", metavar="DIR")] = None,
) -> None:
    """Explain one clip of an audit again, as it was explained there: overlay, contact sheet and raw result.

    A model that runs code is not loaded because a folder names it: give --model, or --trust.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", extra="audit")
    from aosa_fast.cli.run_audit import run_clip

    run_clip(folder, clip, device, out, consoles()[0], model=model, trust=trust)


def read_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n".

    Raises:
        InputError: something else.
    """
    number, slash, count = text.partition("/")
    if not slash or not number.isdecimal() or not count.isdecimal() or not 1 <= int(number) <= int(count):
        raise InputError(f"shard must be I/N, such as 3/16, with I from 1 to N; got {text}")
    return int(number), int(count)
