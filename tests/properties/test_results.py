"""Evaluations and audits: what is asked for is recorded, and every way to read it gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aosa_fast
from aosa_fast import Config, InputError, audit, evaluation
from aosa_fast.audit import AuditRequest, AuditResult, AuditSettings
from aosa_fast.audit.exports.registry import EXPORTS
from aosa_fast.evaluation import Entry, Evaluation, Settings
from audit_rows import fake_failure, fake_row
from evaluation_cases import classifier, memory

plain = ("random", "centre", "motion", "gradient")


@given(
    st.lists(st.sampled_from(evaluation.DEFAULT_METHODS), min_size=1, max_size=4, unique=True),
    st.integers(1, 30),
    st.integers(1, 12),
)
def test_methods_are_read_as_they_are_written(methods: list[str], clips: int, stride: int) -> None:
    found = evaluation.parse_entries([f"{name}@{clips}:stride={stride}" for name in methods], Config(box=5))
    assert all(isinstance(entry, Entry) for entry in found)
    assert [entry.name for entry in found] == [f"{name}:stride={stride}" for name in methods]
    assert {(entry.clips, entry.config.stride, entry.config.box) for entry in found} == {(clips, stride, 5)}
    assert [entry.config.method for entry in found] == methods
    with pytest.raises(InputError):
        evaluation.parse_entries([methods[0], methods[0]], Config())


@given(
    st.integers(1, 5),
    st.lists(st.sampled_from(plain), min_size=1, max_size=3, unique=True),
    st.sampled_from([metric.name for metric in evaluation.METRICS.own() if metric.name in ("deletion", "pointing")]),
    st.integers(1, 3),
)
@settings(max_examples=5)
def test_there_is_a_row_for_each_clip_and_method(
    tmp_path_factory: pytest.TempPathFactory, clips: int, methods: list[str], metric: str, block: int
) -> None:
    out = tmp_path_factory.mktemp("evaluation")
    wanted = evaluation.parse_entries(methods, Config(stride=8, box=8))
    asked = memory(clips), classifier(), wanted, out, Settings(metrics=(metric,), block=block)
    found, again = evaluation.evaluate(*asked), evaluation.evaluate(*asked)
    assert isinstance(found, Evaluation)
    assert sorted((row["clip"], row["method"]) for row in found.rows) == sorted(
        (str(clip), name) for clip in range(clips) for name in methods
    )
    assert str(found.rows) == str(again.rows)  # NaN is equal to itself here
    files = evaluation.write_results(found, out, "aosa-fast evaluate")
    assert all(path.is_file() for path in files.values())


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of six clips of a class each, one of which could not be read."""
    from aosa_fast.audit.store.parts import PartWriter
    from aosa_fast.audit.store.run_folder import open_run

    folder = tmp_path_factory.mktemp("audited") / "audit"
    preprocessing = aosa_fast.models.load("demo").preprocessing.as_dict()
    identity = {"data": "clips", "model": "mine", "preprocessing": preprocessing}
    names = ["sit", "stand", "walk", "run", "jump"]
    open_run(folder, identity, {"class_names": names, "clips": 6}, (1, 1)).close()
    with PartWriter(folder, (1, 1), rows=2) as writer:
        for row in [
            *(fake_row(f"clip/{i}", frames=4, height=32, width=32) for i in range(5)),
            fake_failure("bad/5", label_name="run"),
        ]:
            writer.add([row])
    return folder


@given(st.integers(1, 9), st.lists(st.sampled_from(["label", "probability", "status", "grid"]), unique=True))
def test_rows_are_the_same_however_they_are_read(audited: Path, batch: int, columns: list[str]) -> None:
    wanted = ["id", *columns]
    table = audit.read_rows(audited, wanted)
    batches = [*audit.iter_rows(audited, wanted, batch)]
    assert table.column_names == wanted
    assert max(part.num_rows for part in batches) <= batch
    assert pa.Table.from_batches(batches).to_pylist() == table.to_pylist()


@given(st.integers(0, 4))
def test_maps_are_drawn_from_rows(audited: Path, place: int) -> None:
    row = audit.read_rows(audited).to_pylist()[place]
    found = aosa_fast.load_map(row)
    assert (found.ndim, found.dtype) == (3, np.dtype(np.float32))
    assert np.isfinite(found).all()
    assert np.array_equal(found, audit.load_map(row))


@given(st.integers(0, 99), st.integers(0, 5))
@settings(max_examples=4)
def test_findings_depend_on_the_seed_alone(audited: Path, permutations: int, seed: int) -> None:
    first, second = (audit.summarize(audited, permutations=permutations, seed=seed) for _ in range(2))
    assert str(first.findings) == str(second.findings)


@given(st.sampled_from([export.name for export in EXPORTS.own() if export.name in ("coco", "labelstudio", "hf")]))
def test_exports_hold_the_clips(audited: Path, tmp_path_factory: pytest.TempPathFactory, to: str) -> None:
    out = tmp_path_factory.mktemp(to) / "export"
    seen: list[tuple[int, int]] = []
    count = audit.export_audit(audited, to, out, lambda done, total, what="": seen.append((done, total)))
    assert 5 <= count <= 6
    assert seen[-1][0] == seen[-1][1]
    assert any(out.iterdir())


@given(st.integers(-2, 1), st.integers(-2, 1), st.integers(-1, 3), st.integers(-1, 3))
def test_requests_that_cannot_be_leave_nothing_behind(limit: int, readers: int, part: int, parts: int) -> None:
    folder = Path("never made")
    if limit >= 1 and readers >= 0 and 1 <= part <= parts:
        return
    fields: dict[str, Any] = {"limit": limit, "readers": readers, "shard": (part, parts)}
    with pytest.raises(InputError) as caught:
        audit.audit(AuditRequest("rendered", "demo", folder, AuditSettings(), **fields))
    assert "\n" not in str(caught.value)
    assert not folder.exists()


@given(st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=2)
def test_an_audit_has_a_row_for_each_clip(tmp_path_factory: pytest.TempPathFactory, clips: int, batch: int) -> None:
    folder = tmp_path_factory.mktemp("audit") / "run"
    settings_ = AuditSettings(check_share=0.0, static_share=0.0, batch=batch)
    request = AuditRequest("rendered:1", "demo", folder, settings_, limit=clips, device="cpu", readers=1)
    found = audit.audit(request)
    assert isinstance(found, AuditResult)
    assert found.clips == clips == len(audit.read_rows(folder, ["id"]))
    assert audit.confirm_findings(folder, audit.summarize(folder, permutations=9), device="cpu").findings == ()
