"""Models in a file of their own: programs of torch.export (.pt2) and of TorchScript.

Such a file is a program. Reading and running it can run any code that its author put there, as `python:` does: take
only files from people that you trust. (Checkpoints of weights, which the other kinds of model read, run no code.)
"""

from __future__ import annotations

import os
import warnings
import zipfile
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.boundary import open_file, read_json, reading, unlogged
from aosa_fast.errors import InputError
from aosa_fast.inference.call import call_model
from aosa_fast.models.classifier import KINETICS, Classifier, read_names
from aosa_fast.models.preprocess import Preprocessing

SUFFIXES = (".pt2", ".pt", ".pth", ".ts")
_RULE = "must be a program of torch.export or TorchScript"
KEYS = ("frames", "stride", "size", "crop", "mean", "std", "resize", "class_names")  # of the JSON file beside a program
# Calls that behave otherwise in training, and where they say that they are in training.
TRAINING = {"aten.batch_norm.default": 5, "aten.dropout.default": 2, "aten.feature_dropout.default": 2}


class ExportedNetwork(nn.Module):
    """A program of torch.export behind the usual call: any number of clips, whatever batch it was exported with.

    Clips go through in parts of as many as the program takes: a program exported for one clip gets them one by one, and
    where it wants more than are left, the last clip is repeated and what it gives is left out.

    Attributes:
        program: the module that torch.export made.
        shape: (3, T, H, W) that it takes, None where any.
        batch: fewest and most clips that it takes at a time; most is None for any number.
    """

    def __init__(self, program: nn.Module, shape: tuple[int | None, ...], batch: tuple[int, int | None]) -> None:
        super().__init__()
        self.program = program
        self.shape = shape
        self.batch = batch
        for module in self.modules():
            module.training = False  # its mode was set when it was exported, and its eval() raises

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Sets nothing: the mode was set when the program was exported."""
        return self

    def forward(self, video: Tensor) -> Tensor:
        """Logits (B, n_classes) of a video (B, 3, T, H, W).

        Raises:
            InputError: the program takes videos of another shape only.
        """
        if any(mine not in (None, theirs) for mine, theirs in zip(self.shape, video.shape[1:], strict=True)):
            wanted = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise InputError(
                f"video must be (B, {wanted}), which the program was exported for; got {tuple(video.shape)}"
            )
        fewest, most = self.batch
        rows = []
        for part in video.split(most or len(video)):
            missing = max(0, fewest - len(part))
            full = torch.cat([part, part[-1:].expand(missing, -1, -1, -1, -1)]) if missing else part
            rows.append(call_model(self.program, full)[: len(part)])
        return torch.cat(rows)


def load_exported(path: str, rest: str = "") -> Classifier:
    """Loads a program, with its preprocessing from the JSON file beside it, where there is one.

    Args:
        path: what torch.export.save or torch.jit.save wrote, of a network in evaluation mode that maps a float32 tensor
            (B, 3, T, H, W) to logits (B, n_classes). Beside FILE.pt2, FILE.json may hold any of `KEYS`, as in
            `Preprocessing`; so may FILE.pt2.json, which goes before it. Without one, frames, size and crop are those of
            an exported program's input, where that is fixed, and the rest is `KINETICS`. TorchScript does not keep its
            input's shape.

    Raises:
        InputError: no such file, one of another kind, damaged, exported in training mode, or with other inputs.
    """
    with reading(path, _RULE), unlogged("torch.export"), warnings.catch_warnings():
        # Deprecated, but there are such files.
        warnings.filterwarnings("ignore", message=".*torch.jit")
        warnings.filterwarnings("ignore", message=".*buffer is not writable")  # torch 2.11
        if _kind(path) == "export":
            network = _network(path, torch.export.load(path))
        else:
            network = torch.jit.load(path, map_location="cpu").eval()
    sides = network.shape[1:] if isinstance(network, ExportedNetwork) else (None, None, None)
    places = (f"{path}.json", f"{os.path.splitext(path)[0]}.json")
    beside = next(filter(os.path.isfile, places), None)
    given = {} if beside is None else _description(beside)
    names = given.pop("class_names", None)
    with reading(beside or path, "must be readable JSON", named=False):
        return Classifier(network, _preprocessing(sides, given), names)


def _kind(path: str) -> str:
    with open_file(path) as file:
        names = set()
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                names = {name.rpartition("/")[2] for name in archive.namelist()}
    if names & {"archive_format", "serialized_exported_program.json"}:  # the second until PyTorch 2.7
        return "export"
    if "constants.pkl" in names:
        return "script"
    detail = "weights alone go to torchvision:, pytorchvideo: or resnet3d:, with the name of their network"
    raise InputError(f"{path}: {_RULE}; {detail}")


def _network(path: str, exported: torch.export.ExportedProgram) -> ExportedNetwork:
    for node in exported.graph.nodes:
        place = TRAINING.get(str(node.target))
        if place is not None and place < len(node.args) and node.args[place]:
            raise InputError(f"{path}: must be exported in evaluation mode, after network.eval(); {node.target} is not")
    inputs = [node for node in exported.graph.nodes if node.name in exported.graph_signature.user_inputs]
    shapes = [tuple(getattr(node.meta.get("val"), "shape", ())) for node in inputs]
    shape = shapes[0] if len(shapes) == 1 else ()
    if len(shape) != 5 or shape[1] != 3:
        got = ", ".join(map(str, shapes)) or "none"
        raise InputError(f"{path}: must take one tensor (B, 3, T, H, W); its input is {got}")
    fixed = tuple(side if isinstance(side, int) else None for side in shape)
    fewest, most = fixed[0] or 1, fixed[0]
    if fixed[0] is None:
        limits = exported.range_constraints.get(shape[0].node.expr)
        if limits is not None:
            fewest = max(1, int(limits.lower))
            most = int(limits.upper) if limits.upper.is_Integer else None
    return ExportedNetwork(exported.module(), fixed[1:], (fewest, most))


def _description(path: str) -> dict[str, Any]:
    """Preprocessing and class names from the JSON file beside a program."""
    content = read_json(path, "must be readable JSON")
    if not isinstance(content, dict) or not set(content) <= set(KEYS):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: must hold an object with any of {', '.join(KEYS)}; got {got}")
    with reading(path, "must be readable JSON", named=False):
        given: dict[str, Any] = {"class_names": read_names(content.pop("class_names", None))}
    given["resize"] = content.pop("resize", KINETICS.resize)  # the preprocessing says what it may be
    for key, value in content.items():
        kinds, count = ((int, float), 3) if key in ("mean", "std") else ((int,), 2 if key == "crop" else None)
        row = value if isinstance(value, list) else [value]
        if isinstance(value, list) != bool(count) or len(row) != (count or 1) or not all(type(v) in kinds for v in row):
            wanted = f"a list of {count} numbers" if count else "a whole number"
            raise InputError(f"{path}: {key} must be {wanted}; got {value}")
        given[key] = tuple(value) if isinstance(value, list) else value
    return given


def _preprocessing(sides: tuple[int | None, ...], given: dict[str, Any]) -> Preprocessing:
    frames, height, width = sides
    side = given.get("size", KINETICS.size)
    crop = given.get("crop", (height, width) if height and width else (side, side))
    return KINETICS.changed(**{"frames": frames or KINETICS.frames, "crop": crop, "size": max(crop), **given})
