"""The camera's motion: what most of an optical flow field follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_POINTS = 600  # vectors of a flow field that the camera is fitted to, at most about
_TRIPLES = 48  # with two fifths of the vectors wrong, one of them is all but surely free of wrong ones: 1 - 0.784^48
_JUDGES = 12  # lines, either way, of vectors that choose among the triples' fits
_STEPS = 5
_CUT = 3.0  # vectors so many deviations off do not count


def camera_motion(flow: NDArray[np.float32], bars: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The camera's motion from every frame to the next: the affine motion that most of the frame follows.

    Of fits through three vectors each, that with the least median residual is improved by least squares with Tukey's
    weights. The median vector would be no such start where the camera turns or zooms: a large object then lies nearer
    to it than the frame's corners do. Objects that cover up to two fifths of the frame do not count; beyond half of it,
    an object is what this calls the camera.

    Not by cv2.estimateAffine2D, which takes a pair at a time: of 240 pairs of 112 pixels, with an object of two fifths
    and noise of 0.1, it is up to 2.1 pixels off with RANSAC and 2.9 with LMEDS, this 0.06 in two thirds of the time.

    Args:
        flow: (T-1, H, W, 2), (dx, dy), pixels, finite.

    Returns:
        (T-1, 2, 3): (dx, dy) = A (x, y, 1), x and y the column and row of a pixel; zeros where the camera is still,
        and for frames of one line.
    """
    pairs, height, width, _ = flow.shape
    if not pairs or min(height, width) < 2:
        return np.zeros((pairs, 2, 3))
    if bars is not None and bars.any():
        y, x = np.nonzero(~bars)
        camera = camera_motion(flow[:, y[0] : y[-1] + 1, x[0] : x[-1] + 1])
        camera[:, :, 2] -= camera[:, :, :2] @ (x[0], y[0])
        return camera
    rows, columns = sparse_grid(height, width)
    design = _design(height, width)
    points = design.points
    # dx of all pairs, then dy of all pairs: (2, T-1, N).
    vectors = np.moveaxis(flow[:, rows[:, None], columns], -1, 0).reshape(2, pairs, -1).astype(np.float64)
    fit = _first_fit(vectors, design)
    products = (points[:, :, None] * points[:, None, :]).reshape(-1, 9)
    for _ in range(_STEPS):
        squares = np.square(vectors - fit @ points.T).sum(axis=0)
        nearness = 1 - squares / (_CUT * robust_deviation(squares))[:, None] ** 2
        weights = np.square(np.maximum(nearness, 0))
        # Weights may leave the points of one line only.
        normal = (weights @ products).reshape(pairs, 3, 3) + 1e-9 * len(points) * np.eye(3)
        fit = np.linalg.solve(normal, (weights * vectors @ points)[..., None])[..., 0]
    return np.moveaxis(fit, 0, 1) @ design.basis


def camera_flow(camera: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """(T-1, H, W, 2) float32: the camera's motion (T-1, 2, 3) at every pixel."""
    flow = np.empty((len(camera), height, width, 2), np.float32)
    along = camera[:, :, :1] * np.arange(width) + camera[:, :, 2:]
    down = camera[:, :, 1:2] * np.arange(height)
    for i in range(2):
        np.add(along[:, i, None].astype(np.float32), down[:, i, :, None].astype(np.float32), out=flow[..., i])
    return flow


def camera_length(camera: NDArray[np.float64], height: int, width: int) -> float:
    """Mean length of the camera's motion (T-1, 2, 3) over the frame and all pairs, pixels per frame; 0 if none."""
    if not len(camera):
        return 0.0
    rows, columns = sparse_grid(height, width)
    return float(np.linalg.norm(camera_flow(camera, height, width)[:, rows[:, None], columns], axis=-1).mean())


def robust_deviation(squares: NDArray[np.floating]) -> NDArray[np.float64]:
    """(P,): the deviation of each coordinate, of squared lengths (P, N) of which less than half are outliers."""
    half = squares.shape[1] // 2
    # The median of a squared length of two normal coordinates is 2 ln 2 variances. The floor is what flow can tell.
    deviation = np.sqrt(np.partition(squares, half, axis=1)[:, half] / (2 * np.log(2)))
    return np.maximum(deviation, 0.01).astype(np.float64)


def sparse_grid(height: int, width: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Rows and columns, evenly spaced, of at most about `_POINTS` pixels."""
    step = int(np.ceil(np.sqrt(height * width / _POINTS)))
    # Two lines at least: one cannot tell how motion changes across it.
    rows, columns = (
        np.arange(own // 2, side, own) for side in (height, width) if (own := min(step, max(1, side // 2)))
    )
    return rows, columns


def _first_fit(vectors: NDArray[np.float64], design: _Design) -> NDArray[np.float64]:
    """(2, T-1, 3): of the fits through three of the vectors (2, T-1, N), those with the least median miss."""
    pairs = vectors.shape[1]
    judged = vectors[:, :, design.judges].reshape(2 * pairs, -1)
    corners = np.moveaxis(vectors[:, :, design.triples].reshape(2 * pairs, -1, 3), 1, 0)  # (K, 2T-2, 3)
    off = np.square(corners @ design.guesses - judged)
    squares = off[:, :pairs] + off[:, pairs:]
    half = squares.shape[2] // 2
    best = np.partition(squares, half, axis=2)[..., half].argmin(axis=0)
    ends = vectors[:, np.arange(pairs)[:, None], design.triples[best]]  # (2, T-1, 3)
    return np.asarray((ends[..., None, :] @ design.inverses[best])[..., 0, :])


@dataclass(frozen=True, eq=False)
class _Design:
    """What a fit needs of a frame's size."""

    basis: NDArray[np.float64]  # (3, 3), from (column, row, 1) to -0.5..0.5 each, which conditions the equations well
    points: NDArray[np.float64]  # (N, 3), the grid's pixels in these
    judges: NDArray[np.int_]  # (M,), places among them, evenly spread so that an object has its share of them
    triples: NDArray[np.int_]  # (K, 3), likewise, of three that do not lie on a line
    inverses: NDArray[np.float64]  # (K, 3, 3), from the three values at a triple to the fit, row by column
    guesses: NDArray[np.float64]  # (K, 3, M), from the same to the values at the judges


@lru_cache(maxsize=8)
def _design(height: int, width: int) -> _Design:
    rows, columns = sparse_grid(height, width)
    basis = np.array([[1 / width, 0, 0.5 / width - 0.5], [0, 1 / height, 0.5 / height - 0.5], [0, 0, 1]])
    x, y = np.meshgrid(columns, rows)
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1) @ basis.T
    judges = np.arange(len(points)).reshape(x.shape)[np.ix_(_middles(len(rows)), _middles(len(columns)))].ravel()
    triples = np.random.default_rng(0).integers(len(points), size=(8 * _TRIPLES, 3))
    # Narrow triangles would magnify the errors of their corners.
    wide = np.abs(np.linalg.det(points[triples])) > 0.1
    triples = triples[wide][:_TRIPLES]
    inverses = np.swapaxes(np.linalg.inv(points[triples]), 1, 2)
    return _Design(basis, points, judges, triples, inverses, inverses @ points[judges].T)


def _middles(count: int) -> NDArray[np.int_]:
    """Places among so many lines that have equal parts of them round them."""
    few = min(count, _JUDGES)
    return ((np.arange(few) + 0.5) * count / few).astype(int)
