"""Options that commands share: those of `Config`, and how they are read. torch is not loaded here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from aosa_fast.cli.demo_model import DEFAULT_MODEL
from aosa_fast.config import COMMON, Config, own_options, read_choice
from aosa_fast.data.registry import KINDS, data_help
from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries, is_installed
from aosa_fast.methods.option import Option
from aosa_fast.methods.registry import METHODS
from aosa_fast.models.downloads import allow_downloads
from aosa_fast.models.registry import FAMILIES, MOTIONS, model_help

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
_PANEL = {
    "what": "What is explained",
    "data": "Which clips",
    "figures": "What is measured",
    "how": "How it is explained",
    "clip": "Which frames",
    "run": "Where and how it runs",
    "out": "Output",
    "http": "Who may ask, and where",
    "limits": "How much at once",
    "file": "Options in a file",
    "other": "Options of single methods",
}
MODELS, DATA = f"{model_help()}.", f"{data_help()}."
DEVICE_HELP = "Where the model runs: cpu, cuda, cuda:1 ..., or auto, a GPU if there is one."
DEVICES = "auto|cpu|cuda[:N]"

_METAVARS = {"box": "SIDE|HxW", "areas": "SHARE[,SHARE...]", "layer": "NAME"}


def option(help: str, panel: str, *flags: str, **settings: Any) -> Any:
    """An option in one of the help's panels; its flags are made of its name, where none are given."""
    return typer.Option(*flags, help=help, rich_help_panel=_PANEL[panel], **settings)


_DEFAULT = f"Default: {DEFAULT_MODEL}, embedded, which knows {MOTIONS}."
Model = Annotated[str | None, option(f"{MODELS} {_DEFAULT}", "what", metavar="SPEC")]
Download = Annotated[
    bool,
    option(
        "Fetch weights that this machine lacks: of hf: an id, of torchvision: and pytorchvideo: a name. Default: "
        "nothing is fetched, and a message says where they are.",
        "what",
    ),
]
Device = Annotated[str, option(DEVICE_HELP, "how", metavar=DEVICES)]
Start = Annotated[
    str, option("First frame: a number, seconds such as 1.5s, or center.", "clip", metavar="N|SECONDSs|center")
]
Resize = Annotated[
    str | None,
    option(
        "How a frame becomes the input: short (its short side, and the centre of it), exact (squeezed), or letterbox. "
        "Default: the model's.",
        "clip",
        metavar="short|exact|letterbox",
    ),
]


def with_config_options(*, without: tuple[str, ...] = (), changed: tuple[Option, ...] = ()) -> Decorator:
    """Adds an option for every choice of Config but those named, so that the two cannot drift apart.

    `changed` come first, in place of those of the same name: with another default, or another text.
    """
    own = own_options()
    left_out = {*without, *(choice.name for choice in changed)}
    rest = [choice for name, choice in (COMMON | own).items() if name not in left_out]
    return with_parameters(
        [_parameter(choice, "how") for choice in changed]
        + [_parameter(choice, "other" if choice.name in own else "how") for choice in rest]
    )


def with_field_options(*classes: type) -> Decorator:
    """Adds an option for every field of these dataclasses whose metadata has a help text and its panel.

    What else there is in the metadata goes to typer, but for `kind`: the type to read, where it is not the field's.
    """
    parameters = []
    for owner in classes:
        known = inspect.signature(owner, eval_str=True).parameters
        for field in fields(owner):
            if "help" in field.metadata:
                settings: dict[str, Any] = dict(field.metadata)
                kind = settings.pop("kind", known[field.name].annotation)
                parameters.append(known[field.name].replace(annotation=Annotated[kind, option(**settings)]))
    return with_parameters(parameters)


def with_parameters(added: list[inspect.Parameter]) -> Decorator:
    """Adds to the parameters that a function names those that it takes by **options."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*parameters, *added)]
        function.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in keyword}
        return function

    return decorate


def _parameter(choice: Option, panel: str) -> inspect.Parameter:
    kind: Any = str if choice.name == "box" or choice.several else choice.kind
    default = ",".join(map(str, choice.default)) if choice.several else choice.default
    choices = choice.choices or ([method.name for method in METHODS.own()] if choice.name == "method" else ())
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


def check_specs(data: str, models: Sequence[str | None], *, extra: str) -> None:
    """Says what the specs of data and of models lack before torch is loaded; models' libraries are only looked for.

    Raises:
        InputError: a library is missing.
    """
    needed = {family.name: family.library for family in FAMILIES.own()}
    needed |= {kind.name: kind.library for kind in KINDS.own()}
    for spec in filter(None, models):
        library = needed.get(spec.rpartition("=")[2].partition(":")[0])
        if library and not is_installed(library):
            raise InputError(f'model={spec} must have {library}; it is missing: pip install "aosa-fast[models]"')
    library = needed.get(data.partition(":")[0])
    if library and not os.path.exists(data):
        check_libraries(library, extra=extra)


def command(request: Any, without: tuple[str, ...] = ()) -> Callable[..., None]:
    """A command that runs a request: its fields are the options, and all choices of a Config that is one of them.

    A command with a model has --download too, within which the request is run.

    Args:
        request: a dataclass of annotated options with a method `run`; its docstring is the help.
        without: choices of Config that are no options.
    """
    parameters = dict(inspect.signature(request, eval_str=True).parameters)
    has_config = parameters.pop("config", None) is not None
    for field in fields(request):
        if field.default_factory is not MISSING:
            parameters[field.name] = parameters[field.name].replace(default=field.default_factory())
    if "model" in parameters:
        parameters["download"] = parameters["model"].replace(name="download", default=False, annotation=Download)

    def run(**options: Any) -> None:
        own = {name: options.pop(name) for name in parameters}
        if has_config:
            own["config"] = read_config(options | ({"seed": own["seed"]} if "seed" in own else {}))
        with allow_downloads(own.pop("download", False)):
            request(**own).run()

    run.__doc__ = request.__doc__
    added = with_parameters(list(parameters.values()))(run)
    return with_config_options(without=without)(added) if has_config else added
