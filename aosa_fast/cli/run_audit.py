"""What `audit`, `audit-report` and the like do, once their arguments are read."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from aosa_fast.audit.driver import audit
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.store.parts import count_rows
from aosa_fast.audit.store.remote import working_folder
from aosa_fast.audit.verdicts import keep_verdicts, leave_out, read_verdicts
from aosa_fast.cli.failures import Failures
from aosa_fast.cli.folders import check_folder
from aosa_fast.cli.interrupts import command_line, resumable
from aosa_fast.cli.names import file_names
from aosa_fast.cli.terminal import write_fact, write_line
from aosa_fast.errors import InputError
from aosa_fast.progress import show_progress


def run_audit(request: AuditRequest, verdicts: Path | None, console: Console, errors: Console) -> None:
    """Audits, takes in verdicts, and says what became of the clips.

    Raises:
        InputError: as `aosa_fast.audit.driver.audit`, or a file of verdicts that cannot be read.
    """
    if isinstance(request.out, Path):
        check_folder(request.out)
    given = None if verdicts is None else read_verdicts(verdicts)  # before the work
    begun = False
    with resumable(errors, lambda: _kept(request), lambda: begun), show_progress(True, request.data, errors) as show:

        def report(done: int, total: int, what: str = "", /) -> None:
            nonlocal begun
            begun = True
            show(done, total, what)

        with Failures(errors) as failed:
            result = audit(replace(request, command=command_line()), report, failed)
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items() if count or status == "ok")
    write_fact(console, "clips", f"{result.clips}: {counts}; {result.new} of them now")
    rate = f", {result.new / max(result.busy, 1e-9):.1f} clips/s" if result.new else ""
    write_fact(console, "time", f"{result.seconds:.1f} s{rate}")
    write_fact(console, "rows", str(request.out / "clips"))
    if given is not None:
        with working_folder(request.out) as (here, _):
            write_fact(console, "verdicts", f"{keep_verdicts(here, given)} are kept; the next report leaves them out")
    if any(count for status, count in result.counts.items() if status != "ok") and not request.retry:
        write_fact(console, "failed", f"their rows say why; to try them again: {command_line()} --retry")
    write_fact(console, "next", shlex.join(["aosa-fast", "audit-report", str(request.out)]))


def run_report(
    folder: Path,
    out: Path | None,
    permutations: int,
    seed: int,
    pictures: int,
    verdicts: Path | None,
    console: Console,
    errors: Console,
    *,
    trust: bool = False,
    ask: dict[str, Any] | None = None,
) -> None:
    """Writes the page and the tables of an audit.

    `trust` is whether what the folder names may run code; `ask` is how else the model is opened that confirms findings,
    as `confirm_findings` takes it; None: it is not asked.

    Raises:
        InputError: no audit, no explained clip, verdicts that cannot be read, or a library is missing.
    """
    from aosa_fast.audit.findings.summary import summarize
    from aosa_fast.audit.findings.tables import write_tables
    from aosa_fast.audit.report.page import write_page
    from aosa_fast.audit.report.pictures import ClipPictures
    from aosa_fast.audit.report.suspects import find_suspects, write_suspects
    from aosa_fast.audit.report.words import decided

    page = folder / "report.html" if out is None else out
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"out must end in .html; got {page}")
    check_folder(page.parent, page.name)
    given = None if verdicts is None else read_verdicts(verdicts)
    summary = summarize(folder, permutations=permutations, seed=seed)
    if given is not None:
        keep_verdicts(folder, given)
    summary = leave_out(summary, folder)
    if ask is not None:
        from aosa_fast.audit.confirm.confirm import confirm_findings

        with show_progress(True, "confirmed findings", errors) as report:
            summary = confirm_findings(folder, summary, seed=seed, trust=trust, progress=report, **ask)
    suspects = find_suspects(summary, folder, page.parent)
    with show_progress(True, "pictures", errors) as report:
        size = write_page(
            summary, ClipPictures(folder, trust=trust), page, suspects=suspects, most=pictures, progress=report
        )
    # After what clips and models can make fail.
    files = {"suspects": write_suspects(suspects, page.parent)} | write_tables(summary, page.parent)
    for rank, finding in enumerate(summary.findings, 1):
        said = [finding.text, finding.confirmed.text if finding.confirmed else "", finding.pictures]
        write_fact(
            console,
            f"{rank:>3} {finding.kind}",
            f"{finding.class_name or 'all classes'}: {' '.join(filter(None, said))}",
        )
    for text in summary.warnings:
        write_fact(console, "model", text)
    if summary.unconfirmed:
        write_fact(console, "findings", summary.unconfirmed)
    if summary.sample:
        write_fact(console, "sample", summary.sample)
    if summary.unknown:
        write_fact(console, "labels", summary.unknown)
    if summary.decided:
        write_fact(console, "verdicts", decided(summary.decided))
    if not summary.findings:
        write_fact(console, "findings", "none")
    write_fact(console, "page", f"{page} ({size.bytes / 1e6:.1f} MB, {size.strips} filmstrips)")
    for name, path in files.items():
        write_fact(console, name, str(path))


def run_clip(
    folder: Path, clip: str, device: str, out: Path | None, console: Console, *, model: str | None, trust: bool
) -> None:
    """Explains one clip of an audit as it was explained there, and says where the results are.

    Raises:
        InputError: no audit, no such clip, or it cannot be read or explained.
    """
    from aosa_fast.audit.again import explain_again
    from aosa_fast.output import write_explanation

    where = out if out is not None else Path("out") / file_names([clip])[0]
    check_folder(where)
    found = explain_again(folder, clip, device, model=model, trust=trust)
    files = write_explanation(found, where)
    facts = found.metadata
    write_fact(console, "prediction", f"{facts['prediction'][0]} (p = {facts['prediction_probability'][0]:.3f})")
    write_fact(console, "explained", f"{facts['target'][0]} (p = {facts['probability'][0]:.3f}), {found.config.unit}")
    for name, path in files.items():
        write_fact(console, name, str(path))


def run_demo(out: Path, clips: int, console: Console, errors: Console) -> None:
    """Audits the embedded networks on planted clips, and prints what was found of what was planted."""
    from aosa_fast.audit.demo import run_demo, table

    check_folder(out)
    kept = f"all rows so far are kept in {out}"
    with resumable(errors, lambda: kept), show_progress(True, "planted clips", errors) as show:
        scores = run_demo(
            out, clips, progress=lambda model: lambda done, total, what="": show(done, total, f"{model} {what}")
        )
    write_line(console, table(scores))


def _kept(request: AuditRequest) -> str:
    if not isinstance(request.out, Path):
        return f"the rows so far are in {request.out}"
    try:
        done = count_rows(request.out, request.shard)
    except InputError:
        done = 0
    return f"{done} clips have a row in {request.out}" if done else "no clip has a row yet"
