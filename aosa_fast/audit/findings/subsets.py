"""Shortcuts of some clips of a class only: clusters whose maps lie where those of other classes hardly ever do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.clusters import Cluster
from aosa_fast.audit.findings.permutation import quantile_of_others
from aosa_fast.audit.findings.places import AROUND, frame_cells, offset_name, place_name, window_cells
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
    classes, members = np.unique(clips.target, return_inverse=True)
    if len(classes) < 2:
        return []
    # Once for all clusters: a mean of every class for every cluster is most of the work where there are many classes.
    both = profiles(clips), profiles(clips, less_motion=False)
    usual = {
        aligned: [(own[aligned], quantile_of_others(_class_means(own[aligned], members, len(classes)))) for own in both]
        for aligned in ("frame", "motion")
    }
    tested = sum(map(len, clusters.values()))
    findings = []
    for label, own in clusters.items():
        mine = int(np.searchsorted(classes, label))
        for cluster in own:
            pairs = [(values, medians[mine]) for values, medians in usual[cluster.aligned]]
            found = _examine(clips, pairs, label, cluster, tested)
            if found is not None:
                findings.append(found)
                break  # the larger cluster speaks for the class
    return sorted(findings, key=lambda finding: -finding.effect)


def _examine(
    clips: Clips,
    pairs: Sequence[tuple[Floats, Floats]],  # shares (n, p), and the median (p,) of the other classes
    label: int,
    cluster: Cluster,
    tested: int,
) -> Finding | None:
    from scipy.stats import hypergeom

    if len(cluster.members) < _LEAST_CLIPS or cluster.share > _MOST_SHARE:
        return None
    # Above the motion, and above other classes' maps: as in `find_shortcuts`, the smaller of the two counts.
    excess = np.minimum(*(part[cluster.members].mean(0) - median for part, median in pairs))
    cells = excess >= _REGION * excess.max()
    region = np.where(cells, excess, 0.0)
    effect = float(region.sum())
    if effect < _LEAST_EFFECT or excess.max() < LEAST_PEAK[cluster.aligned]:
        return None
    shares = pairs[0][0][:, cells].sum(1)
    showing = shares >= np.median(shares[cluster.members])
    mine = clips.target == label
    chance = float(hypergeom.sf(int((showing & mine).sum()) - 1, len(clips), int(showing.sum()), int(mine.sum())))
    p_value = min(1.0, chance * tested * len(cells))
    offset = offset_name(region.reshape(WINDOW, WINDOW)) if cluster.aligned == "motion" else ""
    if p_value > SIGNIFICANCE or offset == AROUND:
        return None
    words = (
        f"{offset} what moves, not on it" if offset else f"in the {place_name(region.reshape(GRID[1:]))} of the frame"
    )
    order = cluster.members[np.argsort(-shares[cluster.members], kind="stable")]
    percent = f"{100 * cluster.share:.0f} % of the clips of this class"
    return Finding(
        kind=SHORTCUT,
        class_index=label,
        class_name=clips.names[label],
        where="place" if cluster.aligned == "frame" else "beside the motion",
        text=f"In {percent}, the maps lie {words}: {100 * effect:.0f} % of the map more than in other classes.",
        effect=effect * cluster.share,
        effect_name="share of the map, above what the motion and other classes explain, times share of the clips",
        p_value=p_value,
        count=len(cluster.members),
        clips=clips.ids(order),
        detail={"share_of_clips": cluster.share, "clips_of_class": float(mine.sum())},
        boxes=frame_cells(cells) if cluster.aligned == "frame" else (),
        offsets=window_cells(cells) if cluster.aligned == "motion" else (),
    )


def _class_means(values: NDArray[np.floating], members: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """(count, p) mean of each class, `members` being the number of each row's class."""
    order = np.argsort(members, kind="stable")
    starts = np.searchsorted(members[order], np.arange(count))
    sums = np.add.reduceat(values[order].astype(np.float64), starts, axis=0)
    return np.asarray(sums / np.bincount(members, minlength=count)[:, None])
