"""The command that exports audits: `audit-export`. torch is loaded only when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aosa_fast.addresses import locate
from aosa_fast.audit.exports.registry import EXPORTS
from aosa_fast.cli.options import option
from aosa_fast.cli.settings import with_settings
from aosa_fast.cli.terminal import consoles, write_fact
from aosa_fast.files import refuse_link
from aosa_fast.libraries import check_libraries
from aosa_fast.progress import show_progress


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("audit-export", no_args_is_help=True)(with_settings(audit_export))


def audit_export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder of an audit, or its address.")],
    to: Annotated[str, option("The format; `aosa-fast list exports` says more.", "out", metavar="|".join(EXPORTS))],
    out: Annotated[
        Path | None,
        option(
            "The folder to be made; an earlier export there is replaced. Default: exports/FORMAT in DIR, or in out for "
            "an address.",
            "out",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Write an audit's clips for another tool: FiftyOne, CVAT, Label Studio, Hugging Face datasets, COCO or a table.

    What audit-report has found is in it, where that has run. No clip is copied; but for csv and hf, those with strong
    tubes or a map have them, in pixels and frames of the source.

    Exit codes: 0 done, 2 bad argument or input.
    """
    check_libraries("pyarrow", extra="audit")
    record = EXPORTS.find(to)
    from aosa_fast.audit.exports.run import export_audit
    from aosa_fast.audit.store.remote import working_folder

    place = locate(folder)
    where = (place if isinstance(place, Path) else Path("out")) / "exports" / to if out is None else out
    if out is None:
        refuse_link(where.parent, "folder")
    console, errors = consoles()
    with working_folder(place) as (here, _), show_progress(True, to, errors) as report:
        count = export_audit(here, to, where, report)
    for name, text in (("clips", str(count)), ("folder", str(where)), ("open", record.load.replace("DIR", str(where)))):
        write_fact(console, name, text)
