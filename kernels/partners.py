"""Co-occurrence of motions and the choice of partners (paper III-B, Eq. 1)."""

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.kernels.checks import check_dtype, check_numbers, check_shapes, check_tensors, threads
from aosa_fast.kernels.jit import compiled, working
from aosa_fast.kernels.registry import operator

# Rows whose cosines stay in the second-level cache while they are summed.
ROWS = 64
# Multiplications of a product of matrices, up to which OpenBLAS takes one thread: others would spin after it.
PRODUCT = 2**18
# How far below the K-th best cosine an anchor may lie by a product of matrices, which errs by 1e-12, and still be among
# the best when both are rounded to float32, by 6e-8 at most.
SLACK = 1e-6
# Anchors that come into question for one, above which all are gone through: where much stands still, or moves alike.
FEW = 256


def select_partners(
    tracks: Tensor,  # (B, N, T, 2)
    partners: int,
    min_motion: float = 0.0,
) -> Tensor:
    """Joins each anchor with the anchors that move most alike (paper III-B, Eq. 1).

    u_i is the vector of the displacements of anchor i; Co is the cosine of two of them, 0 where a norm is 0. Partners
    are the best by (Co descending, squared distance of the start positions ascending, index ascending), self excluded.
    Co is summed in float64 in the order of the frames and compared as float32: equal motions are then equal, and
    decided by nearness, on every machine and at any number of threads. The N x N matrix is never stored.

    Args:
        tracks: (B, N, T, 2) float32, (x, y), pixels, at rest before birth and after death, as `track_anchors` gives.
        partners: K, how many to choose, at least 0.
        min_motion: an anchor that never gets farther than this from its start (pixels) chooses by nearness alone,
            because the direction of a near-static anchor is noise; 0: all choose by Co, as in the paper.

    Returns:
        (B, N, K+1) int32: the anchor itself, then its partners, best first; -1 pads where N <= K.

    Raises:
        TypeError: `tracks` is not float32.
        ValueError: a wrong shape, or a negative `partners` or `min_motion`.
    """
    check_tensors(tracks=tracks)
    return _select_partners(tracks, partners, min_motion)


def _check(tracks: Tensor, partners: int, min_motion: float) -> None:
    sizes = check_shapes(tracks=(tracks, "B N T 2"))
    check_dtype(torch.float32, tracks=tracks)
    check_numbers(0, partners=partners)
    if not min_motion >= 0:
        raise ValueError(f"min_motion must be at least 0; got {min_motion}")
    if sizes["T"] < 1:
        raise ValueError("tracks must have at least one frame; got none")


def _select_partners_fake(tracks: Tensor, partners: int, min_motion: float) -> Tensor:
    return tracks.new_empty((*tracks.shape[:2], partners + 1), dtype=torch.int32)


@operator("select_partners", check=_check, fake=_select_partners_fake)
def _select_partners(tracks: Tensor, partners: int, min_motion: float) -> Tensor:
    clips, count = tracks.shape[:2]
    members = torch.empty((clips, count, partners + 1), dtype=torch.int32, device="cpu")
    arrays = tracks.detach().contiguous().numpy()
    numba = compiled("aosa_fast.kernels.partners_numba") if partners else None
    with nullcontext() if numba else working():
        for b in range(clips):
            given = *_displacements(arrays[b], min_motion), members[b].numpy()
            if numba:
                numba.select(*given, threads())
            else:
                _select(*given)
    return members


@np.errstate(invalid="ignore")
def _displacements(
    tracks: NDArray[np.float32],  # (N, T, 2)
    min_motion: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Displacements as unit vectors (D, N), which anchors choose by nearness (N,), and start positions (N, 2).

    D and N are rounded up to a multiple of 4 in the first, with zeros, which change no sum.
    """
    (count, frames, _), places = tracks.shape, tracks.astype(np.float64)
    away = np.square(places - places[:, :1]).sum(axis=2)
    depth = 2 * (frames - 1)
    directions = np.zeros(((depth + 3) // 4 * 4, (count + 3) // 4 * 4))
    directions[:depth, :count] = np.diff(places, axis=1).reshape(count, -1).T
    square = np.zeros(directions.shape[1])
    for step in directions:  # in their order, which is not that of a sum along an axis
        square += step * step
    directions /= np.where(square > 0, np.sqrt(square), 1.0)
    return directions, away.max(axis=1) <= min_motion * min_motion, places[:, 0].copy()


def _select(
    directions: NDArray[np.float64],  # (D, N)
    still: NDArray[np.bool_],  # (N,)
    starts: NDArray[np.float64],  # (N, 2)
    members: NDArray[np.int32],  # (N, K1)
) -> None:
    count = len(starts)
    found = min(members.shape[1], count) - 1
    members[:, 0] = np.arange(count)
    members[:, 1 + found :] = -1
    finite = np.isfinite(directions).all()
    for begin in range(0, count if found else 0, ROWS):
        rows = np.arange(begin, min(begin + ROWS, count))
        left = _select_few(directions, still, starts, members[:, 1 : 1 + found], rows) if finite else rows
        if len(left):
            _select_any(directions, still, starts, members[:, 1 : 1 + found], left)


def _select_few(
    directions: NDArray[np.float64],  # (D, N)
    still: NDArray[np.bool_],  # (N,)
    starts: NDArray[np.float64],  # (N, 2)
    partners: NDArray[np.int32],  # (N, K)
    rows: NDArray[np.int_],
) -> NDArray[np.int_]:
    """Chooses the partners of consecutive rows among the few anchors that can be; gives back rows that have more.

    A product of matrices, whose order of additions nobody knows, is within 1e-12 of Co: whoever stays below the K-th
    best by more than `SLACK` is none of the best, nor is it as float32. Only for the others Co is summed as it must be.
    """
    (x, y), (begin, end), kept = starts.T, (rows[0], rows[-1] + 1), partners.shape[1]
    own, likely = np.ascontiguousarray(directions[:, begin:end].T), np.empty((len(rows), len(starts)), np.float32)
    width = max(1, PRODUCT // max(own.size, 1))
    for left in range(0, len(starts), width):
        likely[:, left : left + width] = own @ directions[:, left : min(left + width, len(starts))]
    likely[rows - begin, rows] = -np.inf
    rest = likely.copy()
    for _ in range(kept - 1):
        rest[rows - begin, rest.argmax(1)] = -np.inf
    near = likely >= rest.max(1, keepdims=True) - np.float32(SLACK)
    many = still[rows] | (near.sum(1) > FEW)
    near[many] = False
    row, column = near.nonzero()
    sums = np.zeros(len(row))
    for step in directions:
        sums += step[begin + row] * step[column]
    distance = (x[begin + row] - x[column]) ** 2 + (y[begin + row] - y[column]) ** 2
    order = np.lexsort((column, distance, -sums.astype(np.float32), row))
    chosen = np.flatnonzero(~many)
    first = np.searchsorted(row, chosen)
    for k in range(kept if len(chosen) else 0):
        partners[begin + chosen, k] = column[order[first + k]]
    return rows[many]


@np.errstate(invalid="ignore")
def _select_any(
    directions: NDArray[np.float64],  # (D, N)
    still: NDArray[np.bool_],  # (N,)
    starts: NDArray[np.float64],  # (N, 2)
    partners: NDArray[np.int32],  # (N, K)
    rows: NDArray[np.int_],
) -> None:
    """Chooses the partners of some rows among all anchors."""
    count, (x, y) = len(starts), starts.T
    sums, product = np.zeros((2, len(rows), count))
    for step in directions:
        sums += np.multiply(step[rows, None], step[:count], out=product)
    sums[still[rows]] = 0
    co = sums.astype(np.float32)
    distance = (x[rows, None] - x) ** 2 + (y[rows, None] - y) ** 2
    chosen, place = rows, np.arange(len(rows))
    for k in range(partners.shape[1]):
        co[place, chosen] = -np.inf
        best = co == co.max(axis=1, keepdims=True)
        chosen = partners[rows, k] = np.where(best, distance, np.inf).argmin(axis=1)
