"""Which clips come from one source: the same group by the data, or frames that are all but the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.appearance import unpack

_BITS = 3  # that two hashes may differ in
_BANDS = 4  # of 16 bits: hashes that differ in three bits at most share one of them
_NEIGHBOURS = 8  # that a hash is held against in a band, in their order: what many clips share is not all pairs
# Root mean square of the differences, levels of 255, of what two clips look like, their brightness taken off. JPEG at
# quality 60, or a smaller size, changed clips of Weizmann by 0.7 to 1.8. Different clips before the same wall differ by
# 1.3 and more: the hash alone would have called 126 pairs of 90 clips one source.
_ALIKE = 1.2
_AT_ONCE = 1 << 14  # pairs whose looks are in memory


def number_sources(
    groups: Sequence[str | None], hashes: Sequence[int | None], appearances: Sequence[bytes | None]
) -> NDArray[np.int64]:
    """(n,) the number of each clip's source, from 0 on: clips of one group, and near-duplicates, have the same.

    Near-duplicates have hashes that differ in at most 3 of 64 bits, and looks that hardly differ. They are looked for
    among hashes that share one of four bands of bits, and there among the 8 next in order: of a large data set, some
    may be missed, and no time is quadratic.

    Args:
        groups: of the clips; None: not known.
        hashes: column `frame_hash`; None: not known.
        appearances: column `appearance`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(groups)
    first: dict[str, int] = {}
    pairs = [(i, first.setdefault(group, i)) for i, group in enumerate(groups) if group is not None]
    known = [i for i in range(count) if hashes[i] is not None and appearances[i] is not None]
    if len(known) > 1:
        near = _candidates(np.array([hashes[i] for i in known], np.uint64))
        near = near[_alike([seen for i in known if (seen := appearances[i]) is not None], near)]
        pairs += np.array(known)[near].tolist()
    edges = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _candidates(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(m, 2) indices of hashes that differ in few bits."""
    found = []
    for band in range(_BANDS):
        shift = np.uint64(16 * band)
        turned = (hashes >> shift) | (hashes << np.uint64(64 - 16 * band)) if band else hashes
        key = turned & np.uint64(0xFFFF)
        order = np.lexsort((turned, key))
        for step in range(1, min(_NEIGHBOURS + 1, len(hashes))):
            one, other = order[:-step], order[step:]
            same = key[one] == key[other]
            one, other = one[same], other[same]
            close = _bit_count(hashes[one] ^ hashes[other]) <= _BITS
            one, other = one[close], other[close]
            found.append(np.minimum(one, other) * len(hashes) + np.maximum(one, other))
    # Each pair once: most share all four bands.
    return np.column_stack(np.divmod(np.unique(np.concatenate(found)), len(hashes)))


def _bit_count(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)


def _alike(appearances: Sequence[bytes], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(m,) whether the clips of each pair (m, 2) look all but the same."""
    cells = unpack(appearances)[0].reshape(len(appearances), -1, 4)
    found = [np.empty(0, bool)]
    for some in np.array_split(pairs, -(-len(pairs) // _AT_ONCE) or 1):
        difference = cells[some[:, 0]].astype(np.float32) - cells[some[:, 1]]
        difference -= difference.mean(axis=1, keepdims=True)
        found.append(np.sqrt(np.square(difference).mean(axis=(1, 2))) <= _ALIKE)
    return np.concatenate(found)
