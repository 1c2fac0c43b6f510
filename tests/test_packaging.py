from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import aosa_fast
from aosa_fast.bench.rows import RESULTS

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_kernels_are_ours_and_no_top_level_package_is_taken():
    for distribution in importlib.metadata.distributions():
        if (distribution.metadata["Name"] or "").replace("_", "-") == "aosa-fast":
            owned = (distribution.read_text("top_level.txt") or "aosa_fast").split()
            assert owned == ["aosa_fast"]
            assert not [file for file in distribution.files or [] if file.parts[0] in ("kernels", "tests", "bench")]


@pytest.mark.parametrize("name", ["bench", "kernels"])
def test_a_folder_of_the_checkout_refuses_to_be_a_top_level_package(name: str):
    done = run("-c", f"import {name}", cwd=ROOT)
    assert done.returncode != 0
    assert f"import aosa_fast.{name}" in done.stderr.splitlines()[-1]


def test_version_is_the_distribution_s():
    assert aosa_fast.__version__ == importlib.metadata.version("aosa-fast")


def test_data_files_come_along():
    folder = Path(aosa_fast.__file__).parent
    for name in ("py.typed", "_C.pyi", "demo/weights.pt", "demo/clip.mp4", "demo/clip.json", "demo/planted-none.pt"):
        assert (folder / name).is_file(), name
    # What the page is made of; in the checkout the same folder is seen, so that a file is missing in a wheel only.
    for name in ("page.html.j2", "findings.html.j2", "classes.html.j2", "failures.html.j2", "reading.html.j2"):
        assert (folder / "audit" / "report" / name).is_file(), name
    for name in ("macros.html.j2", "page.css", "page.js"):
        assert (folder / "audit" / "report" / name).is_file(), name
    for name in ("page.html", "page.css", "page.js"):
        assert (folder / "service" / name).is_file(), name
    assert RESULTS.is_file()


def test_links_of_the_texts_that_pypi_shows_lead_to_files_of_the_checkout():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    places = [
        re.fullmatch(rf"{urls['Homepage']}/(?:blob|raw|tree)/main/([^#]+)(?:#.*)?", url)
        for url in [*links, *urls.values()]
    ]
    paths = [place[1] for place in places if place]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_public_name_can_be_imported():
    for name in aosa_fast.__all__:
        assert getattr(aosa_fast, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aosa_fast.nothing  # noqa: B018


def test_what_an_audit_offers_can_be_imported():
    from aosa_fast import audit

    for name in audit.__all__:
        assert getattr(audit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        audit.nothing  # noqa: B018


def test_no_dynamo_at_the_first_explanation():
    code = (
        "import sys, torch, aosa_fast\n"
        "net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(), torch.nn.Linear(24, 5))\n"
        "video = torch.randn(1, 3, 3, 16, 16)\n"
        "aosa_fast.explain(net, video)\n"
        "aosa_fast.explain(net, video, method='aosa', fill='conditional', samples=2)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert run("-P", "-c", code).stdout.strip() == "False"


@pytest.mark.skipif(not os.environ.get("AOSA_EXPECT_WHEEL"), reason="only where the wheel is under test")
def test_it_is_the_wheel_that_is_tested():
    assert ROOT not in Path(aosa_fast.__file__).parents or ".venv-wheel" in aosa_fast.__file__


@pytest.mark.skipif(not os.environ.get("AOSA_EXPECT_WHEEL"), reason="only where the sdist is under test")
def test_the_sdist_holds_the_checkout_but_what_concerns_the_repository():
    with tarfile.open(next((ROOT / "dist").glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames() if not sdist.getmember(name).isdir()}
    made = {"PKG-INFO", "setup.cfg", *(name for name in names if name.startswith("aosa_fast.egg-info/"))}
    files = ("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard")
    known = set(subprocess.run(files, capture_output=True, text=True, check=True).stdout.splitlines())
    assert names - made == {name for name in known if not name.startswith((".ci/", ".git", ".pre-commit"))}
