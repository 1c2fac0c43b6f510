"""The page of an audit: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from aosa_fast.audit.findings.types import BESIDE, AuditSummary
from aosa_fast.audit.report import text
from aosa_fast.audit.report.links import page_link
from aosa_fast.audit.report.mean_maps import STEP, scale_picture, scale_ticks
from aosa_fast.audit.report.pictures import ClipPictures
from aosa_fast.audit.report.run_facts import everything, head
from aosa_fast.audit.report.store import data_uri
from aosa_fast.audit.report.strips import PER_FINDING, choose_strips
from aosa_fast.audit.report.suspects import Suspect
from aosa_fast.audit.report.views import LISTED, OF_GROUP, Views, accuracy, named_ids
from aosa_fast.audit.report.words import KINDS, decided, known_kind, measures_of, quartiles, written
from aosa_fast.audit.verdicts import VERDICTS
from aosa_fast.progress import Progress
from aosa_fast.version import __version__
from aosa_fast.video import atomic_path

_HERE = Path(__file__).parent
_SUSPECTS = 1000  # on the page; some 1 kB each


@dataclass(frozen=True)
class PageSize:
    """How large a page became."""

    bytes: int  # of the file
    strips: int  # filmstrips in it
    left_out: int  # filmstrips that it would have had without the limit


def write_page(
    summary: AuditSummary,
    pictures: ClipPictures,
    path: Path,
    *,
    suspects: Sequence[Suspect] = (),
    most: int = 200,
    progress: Progress | None = None,
) -> PageSize:
    """Writes the page; a file that is there stays as it is until the new one is whole.

    Names, paths and messages may hold anything; they are shown as text. The page loads nothing, from nowhere, and
    runs no script but its own.

    Args:
        summary: what the audit found.
        pictures: of its clips.
        path: the file.
        suspects: the clips to look at, the strongest first; the page lists a thousand.
        most: filmstrips at most, 10 to 25 kB each.
        progress: called with filmstrips drawn and in all.

    Raises:
        InputError: the file cannot be written.
    """
    strips, left_out = choose_strips(summary, most)
    pictures.prepare(named_ids(summary), strips)
    views = Views(summary, pictures, strips, path.parent, progress)
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    content = _template().render(
        summary=summary,
        key=_key(summary.run),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        head=head(summary.run),
        everything=everything(summary.run),
        findings=summary.findings,
        classes=summary.classes,
        suspects=suspects[:_SUSPECTS],
        all_suspects=len(suspects),
        by_index={one.index: one for one in summary.classes},
        views=views,
        columns=measures_of(summary.classes, table=True),
        measures=measures_of(summary.classes),
        ticks=scale_ticks(views.limit),
        scale=data_uri(scale_picture(views.limit), "image/png"),
        strips=len(strips),
        left_out=left_out,
    )
    data = content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return PageSize(len(data), len(strips), left_out)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        text.shorten,
        text.exact,
        page_link,
        astuple,
        text.number,
        text.percent,
        text.p_value,
        text.probability,
        known_kind,
        decided,
        accuracy,
    )
    environment.globals |= {
        "kinds": KINDS,
        "beside": BESIDE,
        "verdicts": VERDICTS,
        "suspect_columns": [field.name for field in fields(Suspect)],
        "quartiles": quartiles,
        "written": written,
        "step": STEP,
        "shown": PER_FINDING,
        "listed": LISTED,
        "of_group": OF_GROUP,
        "version": __version__,
    }
    environment.filters |= {filter.__name__: filter for filter in filters}
    return environment.get_template("page.html.j2")


def _visible(value: Any) -> Any:
    """Every text that the template prints goes through here, before it is escaped."""
    # What is HTML already has been through here.
    return text.visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _key(run: dict[str, Any]) -> str:
    """The audit's identity: run.json is never replaced, so that verdicts in a browser belong to this audit alone."""
    return hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _policy(style: str, script: str) -> str:
    """Content Security Policy: nothing is loaded, and nothing runs but this style and this script."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
