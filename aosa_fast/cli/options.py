"""Options that commands share: those of `Config`, and how they are read. torch is not loaded here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from aosa_fast.config import Config, read_areas, read_box

_PANEL = {
    "what": "What is explained",
    "data": "Which clips",
    "how": "How it is explained",
    "clip": "Which frames",
    "run": "Where and how it runs",
    "out": "Output",
    "other": "What the comparators know",
}
MODELS = (
    "demo, demo-attention, demo-planted:SEED, torchvision:NAME[:WEIGHTS], hf:ID_OR_FOLDER, "
    "pytorchvideo:NAME[:WEIGHTS], resnet3d:NAME:FILE[:NAMES], python:PACKAGE.MODULE:FUNCTION, or a .pt2 or "
    "TorchScript file."
)
DEVICE_HELP, DEVICES = "Where: cpu, cuda, cuda:1 ..., or auto, a GPU if there is one.", "auto|cpu|cuda[:N]"

_SHOWN: dict[str, Callable[[Any], str]] = {"box": str, "areas": lambda areas: ",".join(map(str, areas))}
_METAVARS = {"box": "SIDE|HxW", "areas": "SHARE[,SHARE...]", "layer": "NAME"}


def option(help: str, panel: str, **settings: Any) -> Any:
    """An option in one of the help's panels."""
    return typer.Option(help=help, rich_help_panel=_PANEL[panel], **settings)


Resize = Annotated[
    str | None,
    option(
        "How a frame becomes the input: short (its short side, and the centre of it), exact (squeezed), or letterbox. "
        "Default: the model's.",
        "clip",
        metavar="short|exact|letterbox",
    ),
]


def with_config_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds an option for every field of Config but those named, so that the two cannot drift apart."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True)
        parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters += [_parameter(field) for field in dataclasses.fields(Config) if field.name not in without]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        function.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in keyword}
        return function

    return decorate


def _parameter(field: dataclasses.Field[Any]) -> inspect.Parameter:
    choices = field.metadata["choices"]
    kind: Any = {"int": int, "float": float}.get(str(field.type).split(" |")[0], str)
    default = field.default
    if field.name in _SHOWN:
        kind, default = str, _SHOWN[field.name](default)
    described = option(
        field.metadata["help"],
        field.metadata["panel"],
        metavar="|".join(choices) if choices else _METAVARS.get(field.name),
        show_default=default is not None,
    )
    wanted: Any = kind if default is not None else kind | None
    annotation = Annotated[wanted, described]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def read_config(options: dict[str, Any]) -> Config:
    """The config of a command's options.

    Raises:
        InputError: an option out of its range or not to be read.
    """
    read: dict[str, Callable[[str], Any]] = {"box": read_box, "areas": read_areas}
    return Config(**{name: read[name](value) if name in read else value for name, value in options.items()})
