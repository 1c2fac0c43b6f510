"""The choice of partners, compiled by Numba: what `partners` does in NumPy, with the same bits."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

from aosa_fast.kernels.jit import jit

# Rows that share each load of the other anchors' displacements, and columns whose sums stay in the first-level cache
# meanwhile. N = 4096, T = 32, one thread: 105, 84 and 71 ms with 128, 256 and 512 columns; N = 784 is alike.
ROWS, COLUMNS = 4, 512
# Between the rows of sums, which would lie 4096 bytes apart: their addresses then end alike, a load of one waits for
# the store of another, and in every second process, by where its memory lies, all took 130 ms in place of 70.
APART = 16
# Columns that are passed over together where none reaches the worst partner so far.
CHUNK = 32
# Below this many multiplications (1.5 ms) another thread costs more than it saves.
WORK_PER_THREAD = 16_000_000


def select(
    directions: NDArray[np.float64],  # (D, N), both rounded up to a multiple of 4 by zeros
    still: NDArray[np.bool_],  # (N,)
    starts: NDArray[np.float64],  # (N, 2)
    members: NDArray[np.int32],  # (N, K1)
    threads: int,
) -> None:
    """Fills `members`, of which K1 is at least 2."""
    count = len(starts)
    workers = max(1, min(threads, count * directions.size // WORK_PER_THREAD))
    if workers == 1:
        _select_rows(directions, still, starts, members, 0, count)
        return
    edges = [count * k // workers for k in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_select_rows, directions, still, starts, members, begin, end) for begin, end in pairwise(edges)
        ]
        for job in jobs:
            job.result()


@numba.njit(nogil=True)
def _cosines(
    directions: NDArray[np.float64],
    first: int,
    left: int,
    columns: int,
    sums: NDArray[np.float64],
) -> None:
    """sums[r, j] = the cosine of first + r and left + j, added in the order of the displacements, four at a time.

    Each load of a displacement serves ROWS = 4 rows. Lanes are independent, so vectors give the scalar's bits.
    """
    # Contiguous rows, of which the compiler makes vectors; those of a slice of `sums` would have strides.
    s0, s1, s2, s3 = sums[0, :columns], sums[1, :columns], sums[2, :columns], sums[3, :columns]
    sums[:] = 0.0
    for d in range(0, directions.shape[0], 4):
        a = directions[d : d + 4, first : first + 4].copy()
        b0 = directions[d, left : left + columns]
        b1 = directions[d + 1, left : left + columns]
        b2 = directions[d + 2, left : left + columns]
        b3 = directions[d + 3, left : left + columns]
        a00, a01, a02, a03 = a[0, 0], a[0, 1], a[0, 2], a[0, 3]
        a10, a11, a12, a13 = a[1, 0], a[1, 1], a[1, 2], a[1, 3]
        a20, a21, a22, a23 = a[2, 0], a[2, 1], a[2, 2], a[2, 3]
        a30, a31, a32, a33 = a[3, 0], a[3, 1], a[3, 2], a[3, 3]
        for j in range(columns):
            x0, x1, x2, x3 = b0[j], b1[j], b2[j], b3[j]
            s0[j] = s0[j] + a00 * x0 + a10 * x1 + a20 * x2 + a30 * x3
            s1[j] = s1[j] + a01 * x0 + a11 * x1 + a21 * x2 + a31 * x3
            s2[j] = s2[j] + a02 * x0 + a12 * x1 + a22 * x2 + a32 * x3
            s3[j] = s3[j] + a03 * x0 + a13 * x1 + a23 * x2 + a33 * x3


@numba.njit(nogil=True)
def _reaches(sums: NDArray[np.float64], worst: np.float32) -> bool:
    hits = 0
    for j in range(sums.shape[0]):
        hits += int(np.float32(sums[j]) >= worst)
    return hits > 0


@numba.njit(nogil=True)
def _insert(
    sums: NDArray[np.float64],
    row: int,
    left: int,
    starts: NDArray[np.float64],
    best_co: NDArray[np.float32],  # (K,), best first
    best_distance: NDArray[np.float64],  # (K,)
    members: NDArray[np.int32],  # (K1,), column 0 is not touched
    found: int,
) -> int:
    """Merges the columns into the row's sorted best; columns come in rising order, so a full tie keeps the earlier."""
    partners = best_co.shape[0]
    for j in range(sums.shape[0]):
        co = np.float32(sums[j])
        if found == partners and co < best_co[partners - 1]:
            continue
        other = left + j
        if other == row:
            continue
        distance = (starts[other, 0] - starts[row, 0]) ** 2 + (starts[other, 1] - starts[row, 1]) ** 2
        place = found
        while place > 0 and (
            co > best_co[place - 1] or (co == best_co[place - 1] and distance < best_distance[place - 1])
        ):
            place -= 1
        if place == partners:
            continue
        found = min(found + 1, partners)
        for k in range(found - 1, place, -1):
            best_co[k] = best_co[k - 1]
            best_distance[k] = best_distance[k - 1]
            members[1 + k] = members[k]
        best_co[place] = co
        best_distance[place] = distance
        members[1 + place] = other
    return found


@jit("(float64[:,::1], boolean[::1], float64[:,::1], int32[:,::1], int64, int64)")
def _select_rows(
    directions: NDArray[np.float64],  # (D, N)
    still: NDArray[np.bool_],  # (N,)
    starts: NDArray[np.float64],  # (N, 2)
    members: NDArray[np.int32],  # (N, K1)
    begin: int,
    end: int,
) -> None:
    count, partners = starts.shape[0], members.shape[1] - 1
    sums = np.empty((ROWS, COLUMNS + APART), dtype=np.float64)
    best_co = np.empty((ROWS, partners), dtype=np.float32)
    best_distance = np.empty((ROWS, partners), dtype=np.float64)
    found = np.empty(ROWS, dtype=np.int64)
    for first in range(begin, end, ROWS):
        rows = min(ROWS, end - first)
        found[:] = 0
        for left in range(0, count, COLUMNS):
            columns = min(COLUMNS, count - left)
            _cosines(directions, first, left, columns, sums)
            for r in range(rows):
                row = first + r
                if still[row]:
                    sums[r] = 0.0
                for at in range(0, columns, CHUNK):
                    part = sums[r, at : min(at + CHUNK, columns)]
                    if found[r] < partners or _reaches(part, best_co[r, partners - 1]):
                        found[r] = _insert(
                            part, row, left + at, starts, best_co[r], best_distance[r], members[row], found[r]
                        )
        for r in range(rows):
            members[first + r, 0] = first + r
            members[first + r, 1 + found[r] :] = -1
