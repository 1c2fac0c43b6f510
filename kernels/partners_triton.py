"""The choice of partners on the GPU: cosines block by block, and the best of every row in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Anchors of a block of the first kernel, one for each thread of a warp.
ANCHORS = 32
# Rows and columns of a block of cosines, of one warp: a thread has 4 rows and 4 columns, hence 4 loads of 16 bytes for
# the 32 operations of a displacement; the best of a row is found without leaving the warp, so that nothing waits at a
# barrier; and the paper's 784 anchors make 196 blocks. 8 rows and 64 columns take 254 registers instead of 140, and
# twice the shuffles.
ROWS, COLUMNS = 4, 128


def select_partners(
    tracks: Tensor,  # (B, N, T, 2)
    partners: int,
    min_motion: float,
) -> Tensor:
    """See `aosa_fast.kernels.select_partners`."""
    B, N, T, _ = tracks.shape
    members = torch.empty((B, N, partners + 1), dtype=torch.int32, device=tracks.device)
    if not partners:
        return members.copy_(torch.arange(N, device=tracks.device)[:, None])
    if not members.numel():
        return members
    # Whole blocks of columns need no masks; what is beyond N is 0.
    width = triton.cdiv(N, COLUMNS) * COLUMNS
    directions = torch.empty((B, T - 1, 2, width), dtype=torch.float64, device=tracks.device)
    starts = torch.empty((B, 2, width), dtype=torch.float64, device=tracks.device)
    still = torch.empty((B, width), dtype=torch.bool, device=tracks.device)
    # As an argument it would be rounded to float32.
    limit = torch.full((1,), min_motion * min_motion, dtype=torch.float64, device=tracks.device)
    _directions[(B, width // ANCHORS)](
        *(tracks.contiguous(), limit, directions, starts, still),
        *(N, T, width),
        ANCHORS=ANCHORS,
        num_warps=ANCHORS // 32,
        enable_fp_fusion=False,
    )
    _select_partners[(B, triton.cdiv(N, ROWS))](
        *(directions, starts, still, members),
        *(N, partners, T - 1, width),
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        SLOTS=triton.next_power_of_2(partners),
        num_warps=1,
        enable_fp_fusion=False,
    )
    return members


@triton.jit
def load_point(
    tracks,  # (N, T, 2) float32 of one clip
    n,  # int64
    t,
    N,
    T,
):
    """x and y of anchors n in frame t, float64; 0 beyond N."""
    point = tracks + (n * T + t) * 2
    x, y = tl.load(point, mask=n < N, other=0.0), tl.load(point + 1, mask=n < N, other=0.0)
    return x.to(tl.float64), y.to(tl.float64)


@triton.jit
def _directions(
    tracks,  # (B, N, T, 2) float32
    limit,  # (1,) float64, the square of min_motion
    directions,  # (B, T-1, 2, width) float64: displacements as unit vectors, transposed
    starts,  # (B, 2, width) float64
    still,  # (B, width) bool: which anchors choose by nearness
    N,
    T,
    width,
    ANCHORS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1).to(tl.int64) * ANCHORS + tl.arange(0, ANCHORS)
    tracks += b * N * T * 2
    start_x, start_y = load_point(tracks, n, 0, N, T)
    tl.store(starts + b * 2 * width + n, start_x)
    tl.store(starts + (b * 2 + 1) * width + n, start_y)
    square, reach = tl.zeros((ANCHORS,), tl.float64), tl.zeros((ANCHORS,), tl.float64)
    before_x, before_y = start_x, start_y
    for t in range(1, T):
        x, y = load_point(tracks, n, t, N, T)
        step_x, step_y = x - before_x, y - before_y
        square += step_x * step_x
        square += step_y * step_y
        away_x, away_y = x - start_x, y - start_y
        reach = tl.maximum(reach, away_x * away_x + away_y * away_y)
        before_x, before_y = x, y
    tl.store(still + b * width + n, reach <= tl.load(limit))
    norm = tl.sqrt(square)
    norm = tl.where(norm > 0, norm, 1.0)
    before_x, before_y = start_x, start_y
    for t in range(1, T):
        x, y = load_point(tracks, n, t, N, T)
        direction = directions + (b * (T - 1) + t - 1) * 2 * width + n
        tl.store(direction, (x - before_x) / norm)
        tl.store(direction + width, (y - before_y) / norm)
        before_x, before_y = x, y


@triton.jit
def _select_partners(
    directions,  # (B, steps, 2, width) float64
    starts,  # (B, 2, width) float64
    still,  # (B, width) bool
    members,  # (B, N, K1) int32
    N,
    K,
    steps,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SLOTS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    directions += b * steps * 2 * width
    starts += b * 2 * width
    nearness = tl.load(still + b * width + row)
    row_x, row_y = tl.load(starts + row), tl.load(starts + width + row)
    # The best so far, in any order. Slots that wait for a partner are worse than any; those from K on are never worst.
    slot = tl.arange(0, SLOTS)[None, :] + row * 0
    kept = -1 - slot
    kept_co = tl.where(slot < K, float("-inf"), float("inf"))
    kept_distance = tl.where(slot < K, float("inf"), float("-inf")).to(tl.float64)
    worst_co, worst_distance, worst = worst_of(kept_co, kept_distance, kept)
    for left in range(0, N, COLUMNS):
        column = left + tl.arange(0, COLUMNS)[None, :]
        sums = tl.zeros((ROWS, COLUMNS), tl.float64)
        at_row, at_column = directions + row, directions + column
        for _ in range(steps):
            # Both axes are loaded before the first product, so that half as often nothing is left to do but wait.
            row_dx, column_dx = tl.load(at_row), tl.load(at_column)
            row_dy, column_dy = tl.load(at_row + width), tl.load(at_column + width)
            sums += row_dx * column_dx
            sums += row_dy * column_dy
            at_row += 2 * width
            at_column += 2 * width
        co = tl.where(nearness, 0.0, sums.to(tl.float32))
        x, y = tl.load(starts + column) - row_x, tl.load(starts + width + column) - row_y
        distance = x * x + y * y
        # Columns come in rising order, so a full tie keeps the earlier. Without the last condition a distance of NaN
        # would be sought for ever.
        better = (column < N) & (column != row) & (distance >= 0)
        better = better & ((co > worst_co) | ((co == worst_co) & (distance < worst_distance)))
        while some(better):
            best_co, best_distance, best = best_of(co, distance, column, better, N)
            place = (best < N) & (kept == worst)
            kept = tl.where(place, best, kept)
            kept_co = tl.where(place, best_co, kept_co)
            kept_distance = tl.where(place, best_distance, kept_distance)
            worst_co, worst_distance, worst = worst_of(kept_co, kept_distance, kept)
            better = better & (column != best)
            better = better & ((co > worst_co) | ((co == worst_co) & (distance < worst_distance)))
    members += (b * N + row) * (K + 1)
    tl.store(members, row, mask=row < N)
    remaining = slot < K
    for k in range(K):
        _, _, best = best_of(kept_co, kept_distance, kept, remaining, N)
        tl.store(members + 1 + k, tl.maximum(best, -1), mask=row < N)
        remaining = remaining & (kept != best)


@triton.jit
def some(flags):
    """Whether any flag (R, C) is set; a scalar."""
    return tl.max(tl.max(flags.to(tl.int32), axis=1), axis=0) > 0


@triton.jit
def best_of(
    co,  # (R, C) float32
    distance,  # (R, C) float64
    index,  # (R, C) or (1, C) int32, below `none`
    wanted,  # (R, C), which count
    none,
):
    """The first of each row (R, 1) by (co descending, distance ascending, index ascending); index `none`: no such."""
    best_co = tl.max(tl.where(wanted, co, float("-inf")), axis=1)[:, None]
    tied = wanted & (co == best_co)
    best_distance = tl.min(tl.where(tied, distance, float("inf")), axis=1)[:, None]
    tied = tied & (distance == best_distance)
    return best_co, best_distance, tl.min(tl.where(tied, index, none), axis=1)[:, None]


@triton.jit
def worst_of(
    co,  # (R, C) float32
    distance,  # (R, C) float64
    index,  # (R, C) int32
):
    """The last of each row (R, 1) in the order of `best_of`."""
    worst_co = tl.min(co, axis=1)[:, None]
    tied = co == worst_co
    worst_distance = tl.max(tl.where(tied, distance, float("-inf")), axis=1)[:, None]
    tied = tied & (distance == worst_distance)
    return worst_co, worst_distance, tl.max(tl.where(tied, index, -2147483648), axis=1)[:, None]
