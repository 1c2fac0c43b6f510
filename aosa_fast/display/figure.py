"""Explanations as figures of matplotlib, made without pyplot: no backend is chosen, and no figure is kept open."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aosa_fast.errors import InputError, brief
from aosa_fast.video.drawing import MAX_FRAMES, cell_size, color_bar, spread
from aosa_fast.video.overlay import color_limit, color_range, render_overlay


class NotebookFigure(Figure):
    """A figure that notebooks show also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def plot_frames(
    pictures: NDArray[np.uint8],
    saliency: NDArray[np.float32],
    frames: int | Sequence[int] = 4,
    *,
    title: str,
    unit: str,
) -> Figure:
    """Draws frames in a row, below them the same with the map over them, and beside them the colours.

    Args:
        pictures: (T, H', W', 3) uint8, RGB.
        saliency: (T, H, W) floating point.
        frames: how many, evenly spread, or their indices; at most 16.
        title: of the figure.
        unit: of the map.

    Raises:
        InputError: no frames, too many, or one that is not there; as `render_overlay`.
    """
    asked, T = np.asarray(frames), len(pictures)
    whole = asked.dtype.kind in "iu"
    chosen = spread(T, int(asked)) if whole and asked.ndim == 0 and 1 <= asked <= MAX_FRAMES else asked
    if not whole or chosen.ndim != 1 or not 1 <= len(chosen) <= MAX_FRAMES or chosen.min() < 0 or chosen.max() >= T:
        raise InputError(
            f"frames must be how many, 1 to {MAX_FRAMES}, or so many indices from 0 to {T - 1}; got {brief(frames)}"
        )
    limit = color_limit(saliency)
    overlays = render_overlay(pictures[chosen], saliency[chosen], limit=limit, min_side=1)
    height, width = (side / 100 for side in cell_size(pictures.shape[1], pictures.shape[2], 240))
    figure = NotebookFigure(figsize=(max(width * len(chosen) + 1.6, 5.0), 2 * height + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for row, images in zip(axes, (pictures[chosen], overlays), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, t in zip(axes[0], chosen, strict=True):
        axis.set_title(f"frame {t}", fontsize="medium")
    # Names of classes are no formulas.
    figure.suptitle(title, parse_math=False, wrap=True)
    low, high = color_range(saliency, limit)
    if low < high:
        colors = ListedColormap(color_bar(low, high, limit, 256, 1)[0] / 255)
        figure.colorbar(ScalarMappable(Normalize(low, high), colors), ax=axes, label=unit, fraction=0.05)
    else:
        figure.supxlabel(f"no colour: the map is constant ({unit})", fontsize="medium", parse_math=False, wrap=True)
    return figure
