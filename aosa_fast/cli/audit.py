"""The commands that audit data sets: `audit`, `audit-report` and the like. torch is loaded only when needed."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.addresses import locate
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import BACKWARD, FILL, RELU, SCORE, AuditSettings
from aosa_fast.cli.demo_model import DEFAULT_MODEL, tell_of_default
from aosa_fast.cli.options import (
    DATA,
    DEVICE_HELP,
    DEVICES,
    Download,
    Model,
    check_specs,
    option,
    read_config,
    with_config_options,
    with_field_options,
)
from aosa_fast.cli.settings import with_settings
from aosa_fast.cli.terminal import consoles, write_fact
from aosa_fast.config import COMMON, own_options, read_choice
from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries, check_opencv
from aosa_fast.methods.registry import METHODS
from aosa_fast.models.downloads import allow_downloads

# Choices of Config for which an audit has its own defaults, and those that it has not, or reads from its settings.
_CONFIG = (
    replace(
        COMMON["method"],
        help="How maps are made: as in explain, by a method that follows the motion.",
        choices=tuple(method.name for method in METHODS.own() if method.has_tubes and method.knows_model),
    ),
    replace(
        COMMON["score"],
        default=SCORE,
        help="What maps measure, as in explain. The logit has a gradient also where the model is sure.",
    ),
    replace(
        COMMON["fill"],
        default=FILL,
        help="What hides a tube, as in explain. The conditional fill cannot see what is uniform, such as a tint.",
    ),
    replace(
        COMMON["backward"],
        default=BACKWARD,
        help="How gradients go back through LayerNorm and RMSNorm, as in explain; routes that change the network need "
        "exact.",
    ),
    replace(own_options()["relu"], default=RELU, help="Which ReLU aosa-approx has, as in explain."),
)
_NOT_HERE = ("stride", "box", "check", "seed", "compat", "batch_size", *own_options())
_OF_CONFIG = ("seed", "relu", *(name for name in COMMON if name not in _NOT_HERE))
Device = Annotated[str, option(DEVICE_HELP, "run", metavar=DEVICES)]
AuditedModel = Annotated[
    str | None,
    option("The model, if it has moved or runs code. Default: the one of the audit.", "what", metavar="SPEC"),
]
Trust = Annotated[
    bool, option("Open the model and the data that DIR names also where that runs code: python:, .pt2, .pt.", "what")
]
Verdicts = Annotated[
    Path | None,
    option(
        "Verdicts of a person, .json as the page saves it or .csv: the audit keeps them, and reports leave these clips "
        "out.",
        "data",
        metavar="FILE",
    ),
]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="The folder of an audit, or its address.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("audit")(with_settings(audit))
    app.command("audit-report", no_args_is_help=True)(with_settings(audit_report))
    app.command("audit-clip", no_args_is_help=True)(with_settings(audit_clip))
    app.command("audit-diff", no_args_is_help=True)(with_settings(audit_diff))


@with_config_options(without=_NOT_HERE, changed=_CONFIG)
@with_field_options(AuditRequest, AuditSettings)
def audit(
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=f"The clips to audit: {DATA}")] = None,
    model: Model = None,
    download: Download = False,
    shard: Annotated[str, option("Audit part I of N: for job arrays, in one folder.", "data", metavar="I/N")] = "1/1",
    device: Device = "auto",
    demo: Annotated[
        bool, option("Audit clips with planted shortcuts, and say which of them are found.", "what")
    ] = False,
    demo_clips: Annotated[int, option("How many clips each audit of --demo has.", "what", min=60)] = 300,
    verdicts: Verdicts = None,
    out: Annotated[
        str,
        option(
            "The folder for the results, or its address, s3://...; a later run goes on there.", "out", metavar="DIR"
        ),
    ] = "out/audit",
    **options: Any,
) -> None:
    """Find what a model looks at when it should not, on all clips of DATA.

    [bold]Examples[/bold]

    aosa-fast audit clips.csv --model torchvision:r3d_18 --out DIR

    aosa-fast audit-report DIR      what was found, as a page

    aosa-fast audit kinetics:FOLDER --model hf:FOLDER --target both --gpus 8

    aosa-fast audit clips.parquet --model SPEC --shard 3/16      for a job array

    aosa-fast audit --demo      planted shortcuts: which of them it finds

    Rows are Parquet, one per clip. Interrupted, it goes on where it stopped. Clips that cannot be read or that end
    their process are rows with their error, and stop nothing.

    Exit codes: 0 done, 2 bad argument or input.
    """  # fmt: skip
    check_libraries("pyarrow", *(["sklearn", "skimage"] if demo else []), extra="audit")
    if options["dense"]:
        check_libraries("zarr", extra="dense")
    if options["engine"] == "ray":
        check_libraries("ray", extra="ray")
    check_opencv()
    check_specs(data or "", [model], extra="audit")
    config = read_config({name: options[name] for name in _OF_CONFIG})
    from aosa_fast.cli.run_audit import run_audit, run_demo

    if demo:
        if data is not None:
            raise InputError(f"DATA must be left out with --demo; got {data}")
        run_demo(Path(out), demo_clips, *consoles())
        return
    if data is None:
        raise InputError("DATA must be given, or --demo")
    options["box"] = read_choice(COMMON["box"], options["box"])
    settings = AuditSettings(config=config, **_chosen(AuditSettings, options))
    request = AuditRequest(
        data,
        model or DEFAULT_MODEL,
        locate(out),
        settings,
        device=device,
        shard=read_shard(shard),
        **_chosen(AuditRequest, options),
    )
    tell_of_default(model, consoles()[0], data)
    with allow_downloads(download):
        run_audit(request, verdicts, *consoles())


def audit_report(
    folder: Folder,
    out: Annotated[
        Path | None,
        option(
            "The page, an .html file; tables are put beside it. Default: report.html in DIR, or in out for an address.",
            "out",
            metavar="FILE",
        ),
    ] = None,
    permutations: Annotated[int, option("How many random permutations each test makes.", "how", min=99)] = 999,
    seed: Annotated[int, option("The seed of all that is random.", "how", min=0)] = 0,
    pictures: Annotated[int, option("How many filmstrips the page shows at most; 0: none.", "out", min=0)] = 200,
    confirm: Annotated[
        bool, option("Hide from the model what each shortcut is about, and say what that does to its answers.", "what")
    ] = True,
    model: AuditedModel = None,
    download: Download = False,
    trust: Trust = False,
    device: Device = "auto",
    verdicts: Verdicts = None,
) -> None:
    """Turn an audit's rows into findings, and one page that needs no network; all shards are read.

    Beside the page: suspects.csv, the clips to look at one by one, the same as Parquet, findings.parquet and
    classes.parquet. A model that runs code is not loaded because a folder names it: without --model or --trust, its
    findings stay unconfirmed.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", "sklearn", "jinja2", extra="audit")
    from aosa_fast.audit.store.remote import working_folder
    from aosa_fast.cli.run_audit import run_report

    ask = {"device": device, "model": model} if confirm else None
    place = locate(folder)
    if out is None and not isinstance(place, Path):
        out = Path("out/report.html")
    with working_folder(place) as (here, _), allow_downloads(download):
        run_report(here, out, permutations, seed, pictures, verdicts, *consoles(), trust=trust, ask=ask)


def audit_clip(
    folder: Folder,
    clip: Annotated[str, typer.Argument(metavar="ID", help="The clip's id, as in the rows and on the page.")],
    model: AuditedModel = None,
    download: Download = False,
    trust: Trust = False,
    device: Device = "auto",
    out: Annotated[Path | None, option("The folder for the results. Default: out/ID.", "out", metavar="DIR")] = None,
) -> None:
    """Explain one clip of an audit again, as it was explained there: overlay, contact sheet and raw result.

    A model that runs code is not loaded because a folder names it: give --model, or --trust.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", extra="audit")
    from aosa_fast.audit.store.remote import working_folder
    from aosa_fast.cli.run_audit import run_clip

    with working_folder(locate(folder)) as (here, _), allow_downloads(download):
        run_clip(here, clip, device, out, consoles()[0], model=model, trust=trust)


def audit_diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The folder of an audit, or its address.")],
    after: Annotated[str, typer.Argument(metavar="B", help="That of another one: another model, or other data.")],
    out: Annotated[
        Path | None,
        option("Write every change as a row of a table as well: .csv, .parquet or .json.", "out", metavar="FILE"),
    ] = None,
) -> None:
    """Say what changed between two audits: accuracy, findings, and the predictions and labels of single clips.

    Clips are the same by their ids, or, where these differ, by their content.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", extra="audit")
    from aosa_fast.audit.diff import SUFFIXES, compare, write_changes
    from aosa_fast.audit.store.remote import working_folder

    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise InputError(f"out must end in {', '.join(SUFFIXES)}; got {out}")
    with working_folder(locate(before)) as (one, _), working_folder(locate(after)) as (other, _):
        found = compare(one, other)
    if out is not None:
        write_changes(found, out)
    console = consoles()[0]
    for name, text in [*found.lines(), *([] if out is None else [("changes", str(out))])]:
        write_fact(console, name, text)


def _chosen(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    return {field.name: options[field.name] for field in fields(kind) if field.name in options}


def read_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n".

    Raises:
        InputError: something else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"shard must be I/N, such as 3/16, with I from 1 to N; got {text}")
    return int(found[1]), int(found[2])
