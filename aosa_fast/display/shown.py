"""How an explanation is shown to people: in a line, in a notebook, as a figure, and in files."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError, brief
from aosa_fast.libraries import check_libraries
from aosa_fast.progress import in_notebook
from aosa_fast.registry import import_object

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLIPS = 3  # of a batch that a notebook shows by itself
_SIDES = (640, 320, 160)  # the longest side of a video in a notebook, pixels: the first that makes it small enough
_BYTES = 2_000_000  # of one video; in the page it takes a third more
_BAR = 12  # height of a colour bar, pixels


class Shown:
    """The part of an `Explanation` that people see; its attributes are described there."""

    saliency: Tensor
    scores: Tensor
    frames: NDArray[np.uint8]
    display: NDArray[np.uint8] | None
    config: Config
    facts: dict[str, Any] | Callable[[], dict[str, Any]]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Every choice in plain types, with versions, timings per stage in seconds, predictions and self-checks.

        Made when it is first asked for: beside a running model nobody may ever do so.
        """
        return self.facts() if callable(self.facts) else self.facts

    def __repr__(self) -> str:
        B, T, H, W = self.saliency.shape
        facts = [*zip(self.metadata["target"], self.metadata["probability"], strict=True)]
        names = [f"{name!r} (p = {p:.3f})" for name, p in facts[:_CLIPS]] + ["..."] * (B > _CLIPS)
        size = (f"{B} clips of " if B > 1 else "") + f"{T} frame{'s' if T > 1 else ''} of {W}x{H} pixels"
        N = self.scores.shape[1]
        tubes = f", strongest tube {float(self.scores.max()):+.3g} of {N}" if N else ""
        return f"<Explanation by {self.config.method} of {', '.join(names)}: {size}, {self.config.unit}{tubes}>"

    def _repr_html_(self) -> str:
        """For notebooks: the overlays of the first clips, as videos that are part of the page."""
        rest = len(self.saliency) - _CLIPS
        more = f"<div>{rest} more: .show(clip={_CLIPS}) and on</div>" if rest > 0 else ""
        return "".join(_clip_html(self, clip, 8.0) for clip in range(min(_CLIPS, len(self.saliency)))) + more

    def show(self, clip: int = 0, fps: float = 8.0) -> None:
        """In a notebook, shows the overlay of one clip as a video; elsewhere, prints what it is and how to save it.

        The video is part of the notebook: no side above 640 pixels, and less where it would have more than 2 MB.

        Args:
            clip: which clip of the batch.
            fps: frames per second.

        Raises:
            InputError: no such clip, or a rate out of range.
        """
        check_clip(self, clip)
        if in_notebook():
            show = import_object("IPython.display:display")
            show({"text/html": _clip_html(self, clip, fps), "text/plain": repr(self)}, raw=True)
        else:
            which = f", clip={clip}" if clip else ""
            call = f'save_overlay("overlay.mp4"{which})'
            sys.stdout.write(f"{brief(title_of(self, clip))}: {call} writes the video that a notebook shows\n")

    def plot(self, frames: int | Sequence[int] = 4, clip: int = 0) -> Figure:
        """Draws frames, below them the same with the map over them, and the colours in units of the score.

        A notebook shows what is returned, and `plot().savefig(path)` writes it; pyplot is not touched.

        Args:
            frames: how many, evenly spread over the clip, or which ones, as indices; at most 16.
            clip: which clip of the batch.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            InputError: matplotlib is missing, no such clip, or no such frames.
        """
        check_clip(self, clip)
        check_libraries("matplotlib.figure", extra="notebook", what="plot")
        from aosa_fast.display.figure import plot_frames

        return plot_frames(
            pictures_of(self, clip), map_of(self, clip), frames, title=title_of(self, clip), unit=self.config.unit
        )

    def save_overlay(
        self,
        path: str | PathLike[str],
        *,
        clip: int = 0,
        frames: NDArray[np.uint8] | None = None,
        boxes: NDArray[np.int32] | None = None,
        fps: float = 8.0,
    ) -> None:
        """Paints the map over the frames: a video for .mp4, .mkv, .mov, .webp or .gif, else a contact sheet.

        Colours are scaled to the clip's own largest values; the contact sheet's bar gives them in units of the score.

        Args:
            path: the file; written under a temporary name first. A contact sheet is a .png or a .jpg.
            clip: which clip of the batch.
            frames: (T, H', W', 3) uint8, other pictures of the same frames; default: `display`, the frames of the
                explained file in its own resolution, or `frames` where there was none.
            boxes: (T, 4) int32, (x0, y0, x1, y1), pixels of the map: rectangles to draw.
            fps: frames per second.

        Raises:
            InputError: an unknown suffix, no such clip, frames or boxes that do not fit the map, a rate out of range,
                or a folder that cannot be written.
        """
        from aosa_fast.video import contact_sheet, render_overlay, write_image, write_video

        check_clip(self, clip)
        pictures, saliency = pictures_of(self, clip) if frames is None else frames, map_of(self, clip)
        if not str(path).lower().endswith((".png", ".jpg", ".jpeg")):
            write_video(path, render_overlay(pictures, saliency, boxes=boxes), fps)
            return
        sheet = contact_sheet(pictures, saliency, title=title_of(self, clip), units=self.config.unit, boxes=boxes)
        write_image(path, sheet)


def check_clip(shown: Shown, clip: int) -> None:
    """Raises InputError where the batch has no such clip."""
    if not 0 <= clip < len(shown.saliency):
        raise InputError(f"clip must be from 0 to {len(shown.saliency) - 1}; got {clip}")


def title_of(shown: Shown, clip: int) -> str:
    """What is explained of a clip: "aosa: why jump?  (p = 0.974)"."""
    name, p = shown.metadata["target"][clip], shown.metadata["probability"][clip]
    return f"{shown.config.method}: why {name}?  (p = {p:.3f})"


def pictures_of(shown: Shown, clip: int) -> NDArray[np.uint8]:
    """(T, H', W', 3) uint8: the frames of a clip to paint on, in the file's own resolution where there is one."""
    return (shown.frames if shown.display is None else shown.display)[clip]


def map_of(shown: Shown, clip: int) -> NDArray[np.float32]:
    """(T, H, W) float32: the saliency of a clip, in main memory."""
    saliency: NDArray[np.float32] = shown.saliency[clip].detach().cpu().numpy()
    return saliency


def picture_html(picture: NDArray[np.uint8], style: str, text: str = "") -> str:
    """An (H, W, 3) uint8 picture as an element that holds it; `text` is what it shows, in words."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=92)
    return f'<img style="{style}" alt="{escape(text)}" src="{_data_uri("image/webp", file.getvalue())}">'


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _clip_html(shown: Shown, clip: int, fps: float) -> str:
    pictures, saliency, unit = pictures_of(shown, clip), map_of(shown, clip), escape(shown.config.unit)
    overlay, kind, data = _smallest(pictures, saliency, fps)
    source = f'style="display:block;max-width:100%" src="{_data_uri(kind, data)}"'
    controls = "autoplay loop muted playsinline controls"
    video = f"<video {controls} {source}></video>" if kind.startswith("video") else f"<img {source}>"
    shrunk = max(overlay.shape[1:3]) < max(pictures.shape[1:3])
    less = "; shown smaller than it is, save_overlay writes all" if shrunk else ""
    return (
        '<figure style="display:inline-block;margin:0 16px 16px 0;vertical-align:top;'
        f'width:{max(240, overlay.shape[2])}px;max-width:100%">'
        f"<figcaption>{escape(title_of(shown, clip))}</figcaption>{video}{_bar_html(saliency)}"
        f'<div style="font-size:85%;opacity:.75">{unit}, warm where positive, blue where negative{less}</div></figure>'
    )


def _smallest(
    pictures: NDArray[np.uint8], saliency: NDArray[np.float32], fps: float
) -> tuple[NDArray[np.uint8], str, bytes]:
    """The overlay, its frames shrunk until it is small enough for a notebook, with the type and the bytes of it."""
    from aosa_fast.models.views import shrunk
    from aosa_fast.video import render_overlay

    for side in _SIDES:
        small = np.stack([shrunk(picture, side) for picture in pictures])
        least, most = sorted(small.shape[1:3])
        overlay = render_overlay(small, saliency, min_side=min(224, side * least // most))
        kind, data = _encoded(overlay, fps)
        if len(data) <= _BYTES:
            break
    return overlay, kind, data


def _encoded(frames: NDArray[np.uint8], fps: float) -> tuple[str, bytes]:
    """The type and the content of a video: WebP where FFmpeg has no encoder of H.264."""
    from aosa_fast.video import write_video

    with TemporaryDirectory(prefix="aosa_fast-") as folder:
        path, kind = Path(folder, "overlay.mp4"), "video/mp4"
        try:
            write_video(path, frames, fps)
        except InputError:
            path, kind = path.with_suffix(".webp"), "image/webp"
            write_video(path, frames, fps)
        return kind, path.read_bytes()


def _bar_html(saliency: NDArray[np.float32]) -> str:
    """The colours, between the values that the outermost of them stand for."""
    from aosa_fast.video.drawing import color_bar, value_label
    from aosa_fast.video.overlay import color_limit, color_range

    limit = color_limit(saliency)
    low, high = color_range(saliency, limit)
    if low == high:
        return "<div>no colour: the map is constant</div>"
    first, last = value_label(low), value_label(high)
    bar = picture_html(color_bar(low, high, limit, 400, _BAR), f"flex:1;min-width:0;height:{_BAR}px", "colours")
    return f'<div style="display:flex;align-items:center;gap:8px">{first}{bar}{last}</div>'
