"""What pages need when the site is built: files of the project outside of docs/, the options, equations as MathML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.exceptions import PluginError

# Where a file that pages include is in the site, for links from one to another.
_PAGES = {"bench/README.md": "benchmarks.md", "CONTRIBUTING.md": "extend.md"}
_INCLUDE = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_ELSEWHERE = r"""["']?((?:https?:)?//[^"')\s]*)"""
_LOADED = re.compile(
    rf"<(?:script|img|iframe|video|audio|source|embed)\b[^>]*?\bsrc={_ELSEWHERE}|<link\b[^>]*?\bhref={_ELSEWHERE}"
    rf"|(?:url\(|@import\s){_ELSEWHERE}"
)


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Puts other files, without their titles, and the table of the options where a page names them in a comment."""
    root = Path(config.config_file_path).parent
    markdown = _INCLUDE.sub(lambda found: _included(root, found[1]), markdown)
    if "<!-- options -->" in markdown:
        markdown = markdown.replace("<!-- options -->", "\n".join(_options()))
    return markdown


def _included(root: Path, name: str) -> str:
    def target(found: re.Match[str]) -> str:
        path = (root / name).parent.joinpath(found[1]).resolve()
        place = path.relative_to(root.resolve()).as_posix()
        return f"]({_PAGES.get(place, place.removeprefix('docs/'))}"

    text = (root / name).read_text(encoding="utf-8")
    return _LINK.sub(target, re.sub(r"\A# .*\n", "", text))


def _options() -> Iterator[str]:
    from aosa_fast.options import described_options

    yield from ("| option | default | what |", "| --- | --- | --- |")
    for name, default, text in described_options():
        yield f"| `{name}` | `{default}` | {text.replace('|', chr(92) + '|')} |"


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Makes equations MathML, which browsers draw by themselves."""
    return _FORMULA.sub(lambda found: _mathml(found[3], found[2] == "[", page.file.src_uri), html)


def _mathml(tex: str, block: bool, where: str) -> str:
    made = latex2mathml.converter.convert(html.unescape(tex), display="block" if block else "inline")
    if "\\" in made:
        raise PluginError(f"{where}: latex2mathml cannot convert ${tex}$")
    return made


def on_post_build(config: Any, **_: Any) -> None:
    """Ends the build where a page would load something from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.html")) + sorted(Path(config.site_dir).rglob("*.css")):
        if found := _LOADED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.name} must not load from another host: {found[0][:200]}")
