"""Options that commands share: those of `Config`, and how they are read. torch is not loaded here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from aosa_fast.config import COMMON, Config, own_options, read_choice
from aosa_fast.data.registry import KINDS, data_help
from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries, is_installed
from aosa_fast.methods.option import Option
from aosa_fast.methods.registry import METHODS
from aosa_fast.models.registry import FAMILIES, model_help

_PANEL = {
    "what": "What is explained",
    "data": "Which clips",
    "how": "How it is explained",
    "clip": "Which frames",
    "run": "Where and how it runs",
    "out": "Output",
    "other": "Options of single methods",
}
MODELS, DATA = f"{model_help()}.", f"{data_help()}."
DEVICE_HELP, DEVICES = "Where: cpu, cuda, cuda:1 ..., or auto, a GPU if there is one.", "auto|cpu|cuda[:N]"

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
    """Adds an option for every choice of Config but those named, so that the two cannot drift apart."""
    own = own_options()

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters += [
            _parameter(choice, "other" if name in own else "how")
            for name, choice in (COMMON | own).items()
            if name not in without
        ]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        function.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in keyword}
        return function

    return decorate


def _parameter(choice: Option, panel: str) -> inspect.Parameter:
    kind: Any = str if choice.name == "box" or choice.several else choice.kind
    default = ",".join(map(str, choice.default)) if choice.several else choice.default
    choices = [method.name for method in METHODS.own()] if choice.name == "method" else choice.choices
    described = option(
        choice.help,
        panel,
        metavar="|".join(choices) or _METAVARS.get(choice.name),
        show_default=default is not None,
    )
    wanted: Any = kind if default is not None else kind | None
    annotation = Annotated[wanted, described]
    default = str(default) if choice.name == "box" else default
    return inspect.Parameter(choice.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def read_config(options: dict[str, Any]) -> Config:
    """The config of a command's options.

    Raises:
        InputError: an option out of its range or not to be read.
    """
    choices = COMMON | own_options()
    return Config(**{name: read_choice(choices[name], value) for name, value in options.items()})


def check_specs(data: str, models: Sequence[str], *, extra: str) -> None:
    """Says what the specs of data and of models lack before torch is loaded; models' libraries are only looked for.

    Raises:
        InputError: a library is missing.
    """
    needed = {record.name: record.library for record in (*FAMILIES.own(), *KINDS.own())}
    for spec in models:
        library = needed.get(spec.rpartition("=")[2].partition(":")[0])
        if library and not is_installed(library):
            raise InputError(f"model={spec} must have {library}; it is missing: pip install aosa-fast[models]")
    library = needed.get(data.partition(":")[0])
    if library and not os.path.exists(data):
        check_libraries(library, extra=extra)
