"""The command `explain`: a dataclass whose docstring is the help, and whose fields are the arguments and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from aosa_fast.cli.names import file_names
from aosa_fast.cli.options import Device, Model, Resize, Start, option
from aosa_fast.cli.terminal import consoles
from aosa_fast.config import Config
from aosa_fast.registry import import_object


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain what a classifier sees in CLIP: writes an overlay video, a contact sheet and the raw result.

    [bold]Examples[/bold]

    aosa-fast explain clip.mp4                               the embedded model

    aosa-fast explain clip.mp4 --method aosa --stride 4      exact, a finer grid

    aosa-fast explain clip.mp4 --model torchvision:r3d_18 --target "arm wrestling"

    aosa-fast explain frames/ --target 3 --minus 7           why 3 and not 7

    The map is signed and in units of the score: warm where hiding the voxels lowers it, blue where it raises it.

    Exit codes: 0 done, 2 bad argument or input.
    """

    clip: Annotated[
        Path,
        typer.Argument(
            metavar="CLIP",
            help="A video (mp4, mkv, avi, mov, webm, gif ...), a folder of frames, or 'FOLDER/img_*.jpg'.",
        ),
    ]
    model: Model = None
    device: Device = "auto"
    target: Annotated[
        list[str],
        option("The class to explain: pred, an index, or a name. Repeat for several.", "what", metavar="CLASS"),
    ] = field(default_factory=lambda: ["pred"])
    minus: Annotated[
        str | None,
        option("Explain the target's score less this class's: why one, not the other.", "what", metavar="CLASS"),
    ] = None
    segments: Annotated[
        Path | None,
        option(
            "Your own segments in place of tubes: an .npy or .npz file of integer labels (T, H, W), of whole frames or "
            "of the model's input; or of boxes (N, T, 4) or tracks (N, T, 2), in pixels of the model's input. For the "
            "model's frames, or for all of the clip.",
            "what",
            metavar="FILE",
        ),
    ] = None
    frames: Annotated[int | None, option("How many frames. Default: what the model expects.", "clip")] = None
    frame_stride: Annotated[int | None, option("Step between frames. Default: the model's.", "clip")] = None
    start: Start = "center"
    size: Annotated[
        int | None, option("Short side in pixels, and side of the square crop. Default: the model's.", "clip")
    ] = None
    resize: Resize = None
    out: Annotated[Path | None, option("Folder for the results. Default: out/CLIP.", "out", metavar="DIR")] = None
    fps: Annotated[float, option("Frames per second of the overlay.", "out", min=0.1)] = 8.0
    config: Config

    @property
    def folder(self) -> Path:
        """For the results."""
        return self.out if self.out is not None else Path("out") / file_names([self.clip.resolve().stem])[0]

    def run(self) -> None:
        """Does it."""
        import_object("aosa_fast.cli.run_explain:run_explain")(self, *consoles())
