"""From an audit's rows to all that its page shows, but for pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips, PlainClips
from aosa_fast.audit.findings.clusters import Cluster, cluster_class, features, summarize_cluster
from aosa_fast.audit.findings.labels import LabelSearch
from aosa_fast.audit.findings.outliers import find_outliers, find_unexplained
from aosa_fast.audit.findings.pictures import examine_pictures
from aosa_fast.audit.findings.recount import Recount
from aosa_fast.audit.findings.shortcuts import find_shortcuts
from aosa_fast.audit.findings.static import find_static
from aosa_fast.audit.findings.subsets import find_subsets
from aosa_fast.audit.findings.sums import SAMPLE, ClassMeans, iter_clips, sum_rows
from aosa_fast.audit.findings.types import AuditSummary, ClassSummary, Finding
from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.store.run_folder import read_run, read_shards
from aosa_fast.data import describe_unknown
from aosa_fast.errors import ModelWarning

_SHOWN = 6  # clips of a class, of each kind


def summarize(folder: Path, *, permutations: int = 999, seed: int = 0, sample: int = SAMPLE) -> AuditSummary:
    """The findings and classes of an audit, finished or not.

    Args:
        folder: of the audit; the rows of all its shards are read.
        permutations: of the tests; the least p-value is 1 / (1 + permutations), before the correction for the profiles.
        seed: of all that is random.
        sample: clips that shortcuts and kinds of maps are looked for among, the same number of each class, 4.4 kB each.
            All else is of all clips.

    Raises:
        InputError: no audit, no explained clip, or scikit-learn is missing.
    """
    run = read_run(folder)
    sums = sum_rows(folder, seed=seed, most=sample)
    rows = sums.rows
    classes, findings = analyze(
        sums.clips, permutations=permutations, seed=seed, rows=rows, means=sums.means, again=iter_clips(folder)
    )
    findings = examine_pictures(folder, findings, len(classes), permutations=permutations, seed=seed)
    known = np.isfinite(rows["label"])
    right = rows["label"][known] == rows["prediction"][known]
    warnings = [shard.get("warnings") for shard in read_shards(folder)]  # from files that anybody may have written
    told = [str(text) for texts in warnings if isinstance(texts, list) for text in texts]
    return AuditSummary(
        run=run,
        counts=sums.counts,
        findings=findings,
        classes=classes,
        errors=sums.errors,
        accuracy=float(right.mean()) if known.any() else None,
        unknown=describe_unknown(_unknown(rows), run["facts"].get("class_names")),
        warnings=tuple({ModelWarning.kind(text): text for text in told}.values()),
        sample=_describe_sample(len(sums.clips), len(rows)),
        mean_map=np.mean([own.mean_map for own in classes], axis=0).astype(np.float32),
    )


def _describe_sample(clips: int, of: int) -> str:
    if clips == of:
        return ""
    return f"shortcuts and kinds of maps were looked for in {clips} of {of} clips, the same number of each class or all"


def _unknown(rows: PlainClips) -> Counter[str]:
    """How many clips have each label that the model does not know."""
    unknown = np.isfinite(rows["data_label"]) & ~np.isfinite(rows["label"])
    return Counter(
        str(int(label) if name is None else name)
        for label, name in zip(rows["data_label"][unknown], rows["label_name"][unknown], strict=True)
    )


def analyze(
    clips: Clips,
    *,
    permutations: int = 999,
    seed: int = 0,
    rows: PlainClips | None = None,
    means: ClassMeans | None = None,
    again: Iterable[Clips] = (),
) -> tuple[tuple[ClassSummary, ...], tuple[Finding, ...]]:
    """The classes and the findings of explained clips.

    Args:
        clips: in which shortcuts, and kinds of maps, are looked for.
        permutations: as `summarize`.
        seed: as `summarize`.
        rows: all clips, if `clips` are a sample of them.
        means: of the grids of all clips; those of `clips` if it is None.
        again: all clips a few at a time, if `clips` are a sample.
    """
    rows = clips if rows is None else rows
    means = ClassMeans().add(clips) if means is None else means
    shortcuts = find_shortcuts(clips, permutations=permutations, seed=seed)
    named = {finding.class_index for finding in shortcuts}
    members = {label: own[clips.has_map[own]] for label, own in clips.members.items()}
    clusters: dict[int, list[Cluster]] = {label: [] for label in members}
    for label, own in members.items():
        for aligned in ("frame", "motion"):
            found = cluster_class(clips, own, aligned, seed=seed)
            clusters[label] += found if len(found) > 1 else []  # all clips in one: that is the class
    shortcuts += find_subsets(clips, {label: own for label, own in clusters.items() if label not in named})
    labels = LabelSearch(clips)
    if clips is rows:
        labels.add(clips)
    else:
        recount = Recount(shortcuts)
        for some in again:
            labels.add(some)
            recount.add(some)
        shortcuts = recount.findings(rows)
    classes = tuple(_summarize_class(clips, rows, means, label, own, clusters[label]) for label, own in members.items())
    findings = (
        *sorted(shortcuts, key=lambda finding: -finding.effect),
        *find_static(clips),
        *labels.findings(rows),
        *find_unexplained(rows),
        *find_outliers(rows),
    )
    return classes, findings


def _summarize_class(
    clips: Clips, rows: PlainClips, means: ClassMeans, label: int, own: NDArray[np.int64], clusters: list[Cluster]
) -> ClassSummary:
    everyone = rows.members[label]
    labels = rows["label"][everyone]
    order = own
    if len(own):
        values = features(clips, "frame", own)
        order = own[np.argsort(np.linalg.norm(values - values.mean(0), axis=1), kind="stable")]
    return ClassSummary(
        index=label,
        name=rows.names[label],
        clips=len(everyone),
        correct=int((labels == label).sum()) if np.isfinite(labels).any() else None,
        mean_probability=float(rows["probability"][everyone].mean(dtype=np.float64)),
        mean_map=means.mean("grid", label),
        mean_moving=means.mean("grid_moving", label),
        mean_around=means.mean("grid_around", label),
        measures={measure: quartiles for measure in MEASURES if (quartiles := _quartiles(rows[measure][everyone]))},
        typical=clips.ids(order, _SHOWN),
        strangest=clips.ids(order[::-1], _SHOWN),
        groups=tuple(summarize_cluster(clips, cluster) for cluster in clusters),
    )


def _quartiles(values: NDArray[np.floating]) -> tuple[float, float, float] | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, middle, high = np.percentile(known, (25, 50, 75)).tolist()
    return low, middle, high
