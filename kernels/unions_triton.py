"""Unions of boxes without masks and without branches: the corners of their outline (paper III-B).

The indicator function of a union is the running sum, along both axes, of its mixed difference D, which is not 0 only
where an edge of one box meets an edge of another, or its own. Hence the sum of a field over the union is the sum of D
times the field's summed-area table, and the adjoint adds D times a value to a difference array: any number of members
costs the same few instructions in every thread, and overlap counts once.
"""

import triton
import triton.language as tl
from torch import Tensor

# Elements of the largest block that holds the candidates of several tubes; 8 for each of 128 threads.
CANDIDATES = 512
# A union of more boxes would need more bits than an int32 has.
MOST_MEMBERS = 32


def blocks(members: Tensor) -> tuple[int, int, int]:
    """(lanes, rows, slots): how many tubes a block holds, how many of a tube's ordinates, and K1 as a power of two.

    Raises:
        ValueError: more than 32 members.
    """
    count = members.shape[2]
    if count > MOST_MEMBERS:
        raise ValueError(f"members must have at most {MOST_MEMBERS} columns on a GPU; got {count}")
    slots = triton.next_power_of_2(max(count, 1))
    rows = min(2 * slots, max(CANDIDATES // (2 * slots), 1), 8)
    return min(max(CANDIDATES // (rows * 2 * slots), 1), 128), rows, slots


@triton.jit
def load_box(
    boxes,  # (N, T, 4) int32 of one clip
    members,  # (N, K1) int32 of one clip
    n,  # tubes, int64
    t,  # frames, int64
    k,  # columns of members
    valid,
    N,
    K1,
    T,
    H,
    W,
):
    """Corners x0, y0, x1, y1 of member k of tube n in frame t, inside the frame; all 0 where there is no such box."""
    valid = valid & (k < K1)
    member = tl.load(members + n * K1 + k, mask=valid, other=-1)
    valid = valid & (member >= 0) & (member < N)
    box = boxes + (member.to(tl.int64) * T + t) * 4
    x0 = tl.maximum(tl.load(box, mask=valid, other=0), 0)
    y0 = tl.maximum(tl.load(box + 1, mask=valid, other=0), 0)
    x1 = tl.minimum(tl.load(box + 2, mask=valid, other=0), W)
    y1 = tl.minimum(tl.load(box + 3, mask=valid, other=0), H)
    some = (x0 < x1) & (y0 < y1)
    return tl.where(some, x0, 0), tl.where(some, y0, 0), tl.where(some, x1, 0), tl.where(some, y1, 0)


@triton.jit
def union_corners(boxes, members, n, t, valid, first, N, K1, T, H, W, ROWS: tl.constexpr, SLOTS: tl.constexpr):
    """Corners of the unions of tubes n (L,) in frames t (L,), of ROWS ordinates from `first` on.

    Returns:
        y (L, ROWS, 1), x (L, 1, 2 SLOTS) and D (L, ROWS, 2 SLOTS), int32; D is 0 where there is no corner.
    """
    n, t, valid = n[:, None], t[:, None], valid[:, None]
    slot = tl.arange(0, SLOTS)[None, :]
    x0, y0, x1, y1 = load_box(boxes, members, n, t, slot, valid, N, K1, T, H, W)
    # Every box gives two abscissas and two ordinates. A missing one gives 0, where D is what it truly is: a candidate
    # too many does no harm.
    side = tl.arange(0, 2 * SLOTS)[None, :]
    x = tl.reshape(tl.join(x0, x1), (n.shape[0], 2 * SLOTS))
    ys = tl.reshape(tl.join(y0, y1), (n.shape[0], 2 * SLOTS))
    row = first + tl.arange(0, ROWS)[None, :]
    if ROWS == 2 * SLOTS:
        y = ys
    else:
        _, top, _, bottom = load_box(boxes, members, n, t, row // 2, valid, N, K1, T, H, W)
        y = tl.where(row % 2 == 0, top, bottom)
    # Equal coordinates are one: only the first counts.
    again_x = tl.sum(((x[:, :, None] == x[:, None, :]) & (side[:, :, None] > side[:, None, :])).to(tl.int32), axis=2)
    again_y = tl.sum(((y[:, :, None] == ys[:, None, :]) & (row[:, :, None] > side[:, None, :])).to(tl.int32), axis=2)
    # Which boxes hold the column right of x, left of x, the row below y, above y: a bit for each.
    bit = (1 << slot)[:, None, :]
    a, b = x0[:, None, :], x1[:, None, :]
    at, before = x[:, :, None], x[:, :, None] - 1
    right_of = tl.sum(tl.where((a <= at) & (at < b), bit, 0), axis=2)[:, None, :]
    left_of = tl.sum(tl.where((a <= before) & (before < b), bit, 0), axis=2)[:, None, :]
    a, b = y0[:, None, :], y1[:, None, :]
    at, before = y[:, :, None], y[:, :, None] - 1
    below_of = tl.sum(tl.where((a <= at) & (at < b), bit, 0), axis=2)[:, :, None]
    above_of = tl.sum(tl.where((a <= before) & (before < b), bit, 0), axis=2)[:, :, None]
    corner = (
        ((right_of & below_of) != 0).to(tl.int32)
        - ((left_of & below_of) != 0).to(tl.int32)
        - ((right_of & above_of) != 0).to(tl.int32)
        + ((left_of & above_of) != 0).to(tl.int32)
    )
    once = (again_x[:, None, :] == 0) & (again_y[:, :, None] == 0)
    return y[:, :, None], x[:, None, :], tl.where(once, corner, 0)
