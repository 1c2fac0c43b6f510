"""The page of an audit: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.report import text
from aosa_fast.audit.report.build import Builder, Progress, named_ids
from aosa_fast.audit.report.mean_maps import STEP, scale_picture, scale_ticks
from aosa_fast.audit.report.run_facts import everything, head
from aosa_fast.audit.report.strips import choose_strips
from aosa_fast.audit.report.words import KINDS, measures_of, quartiles, written
from aosa_fast.errors import InputError
from aosa_fast.version import __version__
from aosa_fast.video import atomic_path

if TYPE_CHECKING:
    from jinja2 import Environment

    from aosa_fast.audit.findings.types import AuditSummary
    from aosa_fast.audit.report.pictures import Pictures

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class PageSize:
    """How large a page became.

    Attributes:
        bytes: of the file.
        strips: filmstrips in it.
        left_out: filmstrips that it would have had without the limit.
    """

    bytes: int
    strips: int
    left_out: int


def write_page(summary: AuditSummary, pictures: Pictures, path: Path, *, progress: Progress | None = None) -> PageSize:
    """Writes the page; a file that is there stays as it is until the new one is whole.

    Names, paths and messages may hold anything; they are shown as text. The page loads nothing, from nowhere, and
    runs no script but its own.

    Args:
        summary: what the audit found.
        pictures: of its clips.
        path: the file.
        progress: called with filmstrips drawn and in all.

    Returns:
        How large it is.

    Raises:
        InputError: the file cannot be written, or Jinja2 is missing.
    """
    environment = _environment()
    strips, left_out = choose_strips(summary, pictures.most)
    pictures.prepare(named_ids(summary), strips)
    builder = Builder(summary, pictures, strips, progress)
    style, script = _read("page.css"), _read("page.js")
    content = environment.get_template("page.html.j2").render(
        summary=summary,
        policy=_policy(style, script),
        style=style,
        script=script,
        head=head(summary.run),
        everything=everything(summary.run),
        kinds=KINDS,
        findings=builder.findings(),
        classes=builder.classes(),
        failed=builder.failed(),
        class_indices={one.index for one in summary.classes},
        counts_ok=summary.counts.get("ok", 0),
        columns=measures_of(summary.classes, table=True),
        measures=measures_of(summary.classes),
        limit=builder.limit,
        ticks=scale_ticks(builder.limit),
        scale=builder.store.add(scale_picture(builder.limit), cells=True),
        store=builder.store,
        step=STEP,
        strips=len(strips),
        left_out=left_out,
        version=__version__,
    )
    data = content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return PageSize(len(data), len(strips), left_out)


@cache
def _environment() -> Environment:
    try:
        import jinja2
    except ImportError:
        raise InputError("audit-report must have Jinja2; it is missing: pip install aosa-fast[audit]") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shorten": text.shorten,
        "number": text.number,
        "percent": text.percent,
        "p_value": text.p_value,
        "probability": text.probability,
        "safe_source": _safe_source,
    }
    environment.globals |= {"quartiles": quartiles, "written": written}
    return environment


def _visible(value: Any) -> Any:
    """Every text that the template prints goes through here, before it is escaped."""
    # What is HTML already has been through here.
    return text.visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _safe_source(source: str) -> Any:
    """Style or script of the page itself, to be printed as it is."""
    import markupsafe

    return markupsafe.Markup(source)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content Security Policy: nothing is loaded, and nothing runs but this style and this script."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
