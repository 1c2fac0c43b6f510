"""Kinds of maps within a class: spectral clustering of downsampled maps (SpRAy: Lapuschkin et al., "Unmasking Clever
Hans predictors and assessing what machines really learn", Nature Communications 2019), aligned to the frame and to the
moving object."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.places import COLUMNS, ROWS
from aosa_fast.audit.findings.types import ClusterSummary

LEAST_CLIPS = 12  # of a class, to be clustered
_MOST_CLIPS = 400  # of a class that are clustered; the others join the nearest cluster
_MOST_GROUPS = 5
_NEIGHBOURS = 8
# Below this an eigenvalue of the graph's normalised Laplacian counts as a part of its own. One cloud of 20 to 60 clips
# had its second one at 0.21 to 0.6, two kinds of maps at 0.
_SEPARATE = 0.1


@dataclass(frozen=True, eq=False)
class Cluster:
    """Some clips of a class."""

    members: NDArray[np.int64]  # (m,), indices into the clips, the most typical first
    share: float  # of the class' clips
    aligned: str  # "frame" or "motion"


def features(clips: Clips, aligned: str, own: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
    """(n, p), of all clips or of `own`: roots of shares, whose Euclidean distance is Hellinger's.

    "frame": by place and by time; "off": the same of what the map has more there than the motion; "motion": by offset
    from the moving object, on still pixels.
    """
    if aligned == "motion":
        around = clips.grids["grid_around"][own]
        values = around.reshape(len(around), -1)
    else:
        grid = clips.grids["grid"][own]
        if aligned == "off":
            grid = grid - clips.grids["grid_moving"][own]
        values = np.concatenate([grid.sum(1).reshape(len(grid), ROWS * COLUMNS), grid.sum((2, 3))], axis=1)
    return np.sqrt(np.maximum(values, 0, dtype=np.float64))


def cluster_class(clips: Clips, own: NDArray[np.int64], aligned: str, *, seed: int = 0) -> list[Cluster]:
    """The clusters of a class' clips, largest first; one if they are all alike, none if there are too few.

    The number of clusters is that of the nearly separate parts of a graph of nearest neighbours, at most 5.

    Args:
        clips: all clips.
        own: indices of the class' clips.
        aligned: "frame" or "motion".
        seed: of the choice among more than 400 clips.

    Raises:
        InputError: scikit-learn is missing.
    """
    if len(own) < LEAST_CLIPS:
        return []
    # The motion is elsewhere in every clip, which would drown what stays.
    values = features(clips, "off" if aligned == "frame" else aligned, own)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(own))[:_MOST_CLIPS])
    labels = _spectral(values[chosen])
    centres = np.stack([values[chosen][labels == k].mean(0) for k in range(labels.max() + 1)])
    distances = np.linalg.norm(values[:, None] - centres[None], axis=2)
    nearest = distances.argmin(1)
    nearest[chosen] = labels
    found = []
    for k in range(len(centres)):
        members = np.flatnonzero(nearest == k)
        order = np.argsort(distances[members, k], kind="stable")
        found.append(Cluster(own[members[order]], len(members) / len(own), aligned))
    return sorted(found, key=lambda cluster: -len(cluster.members))


def summarize_cluster(clips: Clips, cluster: Cluster, most: int = 6) -> ClusterSummary:
    """What the page shows of a cluster."""
    mean = clips.grids["grid"][cluster.members].mean(0)
    return ClusterSummary(clips.ids(cluster.members, most), mean.astype(np.float32), cluster.share, cluster.aligned)


def _spectral(values: NDArray[np.float64]) -> NDArray[np.int64]:
    from sklearn.cluster import SpectralClustering
    from sklearn.neighbors import kneighbors_graph

    neighbours = min(max(_NEIGHBOURS, len(values) // 20), len(values) - 1)
    graph = kneighbors_graph(values, neighbours, include_self=False).toarray()
    graph = np.maximum(graph, graph.T)
    degree = 1 / np.sqrt(graph.sum(1))
    eigenvalues = np.linalg.eigvalsh(np.eye(len(graph)) - degree[:, None] * graph * degree)
    count = int((eigenvalues[:_MOST_GROUPS] < _SEPARATE).sum())
    if count < 2:
        return np.zeros(len(values), np.int64)
    model = SpectralClustering(count, affinity="precomputed", assign_labels="cluster_qr", random_state=0)
    with warnings.catch_warnings():
        # Parts without an edge between them are what is looked for.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        labels = model.fit_predict(graph)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
