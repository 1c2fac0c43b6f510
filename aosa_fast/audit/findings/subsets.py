"""Shortcuts of some clips of a class only: clusters whose maps lie where those of other classes hardly ever do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.clusters import Cluster
from aosa_fast.audit.findings.permutation import median_of_others
from aosa_fast.audit.findings.places import AROUND, offset_name, place_name
from aosa_fast.audit.findings.shortcuts import LEAST_PEAK, SIGNIFICANCE, Floats, profiles
from aosa_fast.audit.findings.types import SHORTCUT, Finding
from aosa_fast.audit.store.schema import GRID, WINDOW

_LEAST_CLIPS = 5
_MOST_SHARE = 0.9  # of the class; more of it is the class, and found as such
_LEAST_EFFECT = 0.2
_REGION = 0.25


def find_subsets(clips: Clips, clusters: dict[int, list[Cluster]]) -> list[Finding]:
    """Clusters that are shortcuts.

    A cluster is named where its mean map exceeds the median of the other classes' means, in some region, by a fifth of
    the map, and the class has more clips with that much of their map there than chance gives: the number among the
    class' clips, of all that have at least the cluster's median, is hypergeometric under permuted labels, so that the
    permutation test has a closed form. Its p-value is corrected (Bonferroni) for classes, clusters and cells.

    Args:
        clips: explained clips.
        clusters: of each class, by the model's index; of classes that have a finding already, leave them out.

    Raises:
        InputError: scikit-learn, with which scipy comes, is missing.
    """
    both = profiles(clips), profiles(clips, less_motion=False)
    classes, members = np.unique(clips.target, return_inverse=True)
    if len(classes) < 2:
        return []
    # Once for all clusters: a mean of every class for every cluster is most of the work where there are many classes.
    usual = {
        aligned: [median_of_others(_class_means(part[aligned], members, len(classes))) for part in both]
        for aligned in ("frame", "motion")
    }
    tested = sum(map(len, clusters.values()))
    findings = []
    for label, own in clusters.items():
        for cluster in own:
            mine = int(np.searchsorted(classes, label))
            found = _examine(clips, both, [part[mine] for part in usual[cluster.aligned]], label, cluster, tested)
            if found is not None:
                findings.append(found)
                break  # the larger cluster speaks for the class
    return sorted(findings, key=lambda finding: -finding.effect)


def _examine(
    clips: Clips,
    both: tuple[dict[str, Floats], dict[str, Floats]],
    usual: Sequence[NDArray[np.floating]],
    label: int,
    cluster: Cluster,
    tested: int,
) -> Finding | None:
    from scipy.stats import hypergeom

    if len(cluster.members) < _LEAST_CLIPS or cluster.share > _MOST_SHARE:
        return None
    # Above the motion, and above other classes' maps: as in `find_shortcuts`, the smaller of the two counts.
    values, plain = (own[cluster.aligned] for own in both)
    excess = np.minimum(
        *(part[cluster.members].mean(0) - median for part, median in zip((values, plain), usual, strict=True))
    )
    cells = excess >= _REGION * excess.max()
    region = np.where(cells, excess, 0.0)
    effect = float(region.sum())
    if effect < _LEAST_EFFECT or excess.max() < LEAST_PEAK:
        return None
    shares = values[:, cells].sum(1)
    showing = shares >= np.median(shares[cluster.members])
    mine = clips.target == label
    chance = float(hypergeom.sf(int((showing & mine).sum()) - 1, len(clips), int(showing.sum()), int(mine.sum())))
    p_value = min(1.0, chance * tested * values.shape[1])
    words = _words(region, cluster.aligned)
    if p_value > SIGNIFICANCE or not words:
        return None
    name, order = clips.names[label], cluster.members[np.argsort(-shares[cluster.members], kind="stable")]
    percent = f"{100 * cluster.share:.0f} % of the clips of this class"
    return Finding(
        kind=SHORTCUT,
        class_index=label,
        class_name=name,
        where="place" if cluster.aligned == "frame" else "beside the motion",
        text=f"In {percent}, the maps lie {words}: {100 * effect:.0f} % of the map more than in other classes.",
        effect=effect * cluster.share,
        effect_name="share of the map, above what the motion and other classes explain, times share of the clips",
        p_value=p_value,
        count=len(cluster.members),
        clips=tuple(str(clips["id"][i]) for i in order[:50]),
        detail={"share_of_clips": cluster.share, "clips_of_class": float(mine.sum())},
        boxes=_boxes(cells) if cluster.aligned == "frame" else (),
    )


def _class_means(values: NDArray[np.floating], members: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count, p) mean of each class, `members` being the number of each row's class."""
    order = np.argsort(members, kind="stable")
    starts = np.searchsorted(members[order], np.arange(count))
    sums = np.add.reduceat(values[order].astype(np.float64), starts, axis=0)
    return np.asarray(sums / np.bincount(members, minlength=count)[:, None])


def _words(region: NDArray[np.floating], aligned: str) -> str:
    if aligned == "frame":
        return f"in the {place_name(region.reshape(GRID[1:]))} of the frame"
    offset = offset_name(region.reshape(WINDOW, WINDOW))
    return "" if offset == AROUND else f"{offset} what moves, not on it"


def _boxes(cells: Sequence[bool] | NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    return tuple((int(r), int(c)) for r, c in np.argwhere(np.asarray(cells).reshape(GRID[1:])))
