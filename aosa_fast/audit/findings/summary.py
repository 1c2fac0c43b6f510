"""From an audit's rows to all that its page shows, but for pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips, load_clips
from aosa_fast.audit.findings.clusters import Cluster, cluster_class, features, summarize_cluster
from aosa_fast.audit.findings.labels import find_labels
from aosa_fast.audit.findings.outliers import find_outliers, find_unexplained
from aosa_fast.audit.findings.pictures import examine_pictures
from aosa_fast.audit.findings.shortcuts import find_shortcuts
from aosa_fast.audit.findings.static import find_static
from aosa_fast.audit.findings.subsets import find_subsets
from aosa_fast.audit.findings.types import AuditSummary, ClassSummary, Finding
from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.store.parts import STATUSES, read_rows
from aosa_fast.audit.store.run_folder import read_run, read_shards
from aosa_fast.data import describe_unknown
from aosa_fast.errors import ModelWarning

_SHOWN = 6  # clips of a class, of each kind
_ERRORS = 20


def summarize(folder: Path, *, permutations: int = 999, seed: int = 0) -> AuditSummary:
    """The findings and classes of an audit, finished or not.

    Args:
        folder: of the audit; the rows of all its shards are read.
        permutations: of the tests; the least p-value is 1 / (1 + permutations), before the correction for the profiles.
        seed: of all that is random.

    Raises:
        InputError: no audit, no explained clip, or scikit-learn is missing.
    """
    run = read_run(folder)
    clips = load_clips(folder)
    counts, errors = _failures(folder)
    classes, findings = analyze(clips, permutations=permutations, seed=seed)
    findings = examine_pictures(folder, findings, permutations=permutations, seed=seed)
    known = np.isfinite(clips["label"])
    right = clips["label"][known] == clips["prediction"][known]
    warnings = [shard.get("warnings") for shard in read_shards(folder)]  # from files that anybody may have written
    told = [str(text) for texts in warnings if isinstance(texts, list) for text in texts]
    return AuditSummary(
        run=run,
        counts=counts,
        findings=findings,
        classes=classes,
        errors=errors,
        accuracy=float(right.mean()) if known.any() else None,
        unknown=describe_unknown(_unknown(clips), run["facts"].get("class_names")),
        warnings=tuple({ModelWarning.kind(text): text for text in told}.values()),
        mean_map=np.mean([own.mean_map for own in classes], axis=0).astype(np.float32),
    )


def _unknown(clips: Clips) -> Counter[str]:
    """How many clips have each label that the model does not know."""
    return Counter(
        str(int(label) if name is None else name)
        for label, own, name in zip(clips["data_label"], clips["label"], clips["label_name"], strict=True)
        if np.isfinite(label) and not np.isfinite(own)
    )


def analyze(
    clips: Clips, *, permutations: int = 999, seed: int = 0
) -> tuple[tuple[ClassSummary, ...], tuple[Finding, ...]]:
    """The classes and the findings of explained clips; arguments as `summarize`."""
    shortcuts = find_shortcuts(clips, permutations=permutations, seed=seed)
    named = {finding.class_index for finding in shortcuts}
    members = {int(c): np.flatnonzero((clips.target == c) & clips.has_map) for c in np.unique(clips.target)}
    clusters: dict[int, list[Cluster]] = {label: [] for label in members}
    for label, own in members.items():
        for aligned in ("frame", "motion"):
            found = cluster_class(clips, own, aligned, seed=seed)
            clusters[label] += found if len(found) > 1 else []  # all clips in one: that is the class
    shortcuts += find_subsets(clips, {label: own for label, own in clusters.items() if label not in named})
    classes = tuple(_summarize_class(clips, label, own, clusters[label]) for label, own in members.items())
    findings = (
        *sorted(shortcuts, key=lambda finding: -finding.effect),
        *find_static(clips),
        *find_labels(clips),
        *find_unexplained(clips),
        *find_outliers(clips),
    )
    return classes, findings


def _summarize_class(clips: Clips, label: int, own: NDArray[np.int64], clusters: list[Cluster]) -> ClassSummary:
    everyone = np.flatnonzero(clips.target == label)
    labels = clips["label"][everyone]
    order = own
    if len(own):
        values = features(clips, "frame", own)
        order = own[np.argsort(np.linalg.norm(values - values.mean(0), axis=1), kind="stable")]
    return ClassSummary(
        index=label,
        name=clips.names[label],
        clips=len(everyone),
        correct=int((labels == label).sum()) if np.isfinite(labels).any() else None,
        mean_probability=float(clips["probability"][everyone].mean()),
        mean_map=_mean(clips, "grid", own),
        mean_moving=_mean(clips, "grid_moving", own),
        mean_around=_mean(clips, "grid_around", own),
        measures={measure: quartiles for measure in MEASURES if (quartiles := _quartiles(clips[measure][everyone]))},
        typical=clips.ids(order, _SHOWN),
        strangest=clips.ids(order[::-1], _SHOWN),
        groups=tuple(summarize_cluster(clips, cluster) for cluster in clusters),
    )


def _mean(clips: Clips, name: str, own: NDArray[np.int64]) -> NDArray[np.float32]:
    grid = clips.grids[name]
    return grid[own].mean(0).astype(np.float32) if len(own) else np.zeros(grid.shape[1:], np.float32)


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float] | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, middle, high = np.percentile(known, (25, 50, 75)).tolist()
    return low, middle, high


def _failures(folder: Path) -> tuple[dict[str, int], tuple[tuple[str, int, tuple[str, ...]], ...]]:
    """Clips by status, and the commonest errors."""
    table = read_rows(folder, ["id", "status", "error"])
    counts = Counter(dict.fromkeys(STATUSES, 0))
    counts.update(table["status"].to_pylist())
    failed = table.filter(pc.not_equal(table["status"], "ok"))
    by_message: dict[str, list[str]] = {}
    for name, message in zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True):
        # The same fault of many clips: each message begins with the clip's own name or path.
        by_message.setdefault(str(message), []).append(name)
    ranked = sorted(by_message.items(), key=lambda item: -len(item[1]))[:_ERRORS]
    return dict(counts), tuple((message, len(ids), tuple(ids[:5])) for message, ids in ranked)
