"""`aosa-fast completion SHELL`, and what its script asks for: the values that may follow; torch is not loaded.

Values come from where help and checks have them: the registries, and what stands between | in an option's metavar.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from aosa_fast.bench.registry import SUITES
from aosa_fast.cli.shells import SCRIPTS
from aosa_fast.data.registry import KINDS
from aosa_fast.errors import InputError
from aosa_fast.evaluation.metrics import METRICS
from aosa_fast.evaluation.paper import TABLES
from aosa_fast.methods.registry import METHODS, PATTERNS
from aosa_fast.models.registry import FAMILIES
from aosa_fast.registry import Record, Registry

Values = dict[str, str]  # what may be written, and what it means
# What may follow the colon of some kinds of models and data.
FOLLOWING = {
    "demo-scene": ("colour", "order", "still"),
    "demo-planted": ("0", "1", "2", "6", "7", "8", "attention", "none"),
    "torchvision": (
        "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b",
    ),
    "pytorchvideo": (
        "slow_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50", "slowfast_r50", "slowfast_r101", "x3d_xs", "x3d_s", "x3d_m",
    ),
    "resnet3d": tuple(f"{kind}{depth}:" for kind in ("r3d", "r2plus1d") for depth in (18, 34, 50, 101)),
    "rendered": tuple(f"kind={kind}" for kind in ("one", "colour", "shape", "order", "still")),
}  # fmt: skip
_PATHS = re.compile(r"FILE|CLIP|SOURCE|DATA|SPEC|\.json|\.csv|^[AB]$")
_FOLDERS = re.compile("DIR")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("completion", no_args_is_help=True)(completion)
    app.command("_complete", hidden=True)(complete)


def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")]) -> None:
    """Print a script by which a shell completes commands, options, choices and files.

    eval "$(aosa-fast completion bash)"      in ~/.bashrc

    eval "$(aosa-fast completion zsh)"       in ~/.zshrc

    aosa-fast completion fish | source       in ~/.config/fish/config.fish

    Exit codes: 0 done, 2 bad argument.
    """
    if shell not in SCRIPTS:
        raise InputError(f"shell must be one of {', '.join(SCRIPTS)}; got {shell}")
    sys.stdout.write(SCRIPTS[shell])


def complete(context: typer.Context, words: list[str]) -> None:
    """For the scripts: what the last of WORDS, those after the program's name, may become."""
    assert context.parent is not None
    place, values = _complete(context.parent.command, words[:-1], words[-1])
    lines = [place, *(f"{value}\t{help.partition('. ')[0]}" for value, help in values.items())]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _complete(command: Any, before: list[str], word: str) -> tuple[str, Values]:
    """Which files there may be as well, and the values."""
    asking, given, ended = None, 0, False
    for text in before:
        if asking is not None:
            asking = None
        elif text == "--" and not ended:
            ended = True
        elif text.startswith("-") and len(text) > 1 and not ended:
            asking = None if "=" in text else _option(command, text)
        elif text in getattr(command, "commands", {}) and not given:
            command = command.commands[text]
        else:
            given += 1
    if asking is not None:
        return _values(asking, word)
    if word.startswith("-") and not ended:
        name, equals, value = word.partition("=")
        if not equals:
            return "", _starting(_flags(command), word)
        option = _option(command, name)
        return ("", {}) if option is None else _after(f"{name}=", *_values(option, value))
    if getattr(command, "commands", {}) and not given:
        known = {name: own.get_short_help_str(200) for name, own in command.commands.items() if not own.hidden}
        return "", _starting(known, word)
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    if arguments and (given < len(arguments) or arguments[-1].nargs == -1):
        return _values(arguments[min(given, len(arguments) - 1)], word)
    return "", {}


def _option(command: Any, name: str) -> Any:
    """The option of a name, if it takes a value."""
    return next((param for param in command.params if name in param.opts and not param.is_flag), None)


def _flags(command: Any) -> Values:
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    return {flag: param.help or "" for param in options for flag in (*param.opts, *param.secondary_opts)} | {
        "--help": "Show what there is."
    }


def _values(param: Any, word: str) -> tuple[str, Values]:
    """The values of an argument or an option, and which files may be its value."""
    metavar = param.metavar or ""
    if metavar == "[COLUMN=]SPEC" and "=" in word:
        column, _, word = word.partition("=")
        return _after(f"{column}=", *_specs(FAMILIES, word))
    if metavar.endswith("SPEC"):
        return _specs(FAMILIES, word)
    if metavar == "DATA":
        return _specs(KINDS, word)
    # An audit has methods of its own: those that its metavar names.
    if metavar in ("METHODS", "|".join(record.name for record in METHODS.own())):
        patterns = {f"{name}:": pattern.help for name, pattern in PATTERNS.items()}
        return "", _listed(_records(METHODS) | patterns, word)
    if metavar == "METRIC[,METRIC...]":
        return "", _listed(_records(METRICS), word)
    if metavar == "SUITE[:PART]":
        return "", _starting(_records(SUITES), word)
    if metavar == "TABLE":
        return "", _starting(dict.fromkeys(TABLES, ""), word)
    if "|" in metavar or metavar.islower():
        return "", _starting(dict.fromkeys(re.findall(r"(?<![A-Za-z])[a-z][\w-]*(?!\w)", metavar), ""), word)
    if param.name == "annotations" or _PATHS.search(metavar):
        return "files\t", {}
    return ("dirs\t" if _FOLDERS.search(metavar) else ""), {}


def _records(registry: Registry[Any]) -> Values:
    own: dict[str, Record] = {record.name: record for record in registry.own()}
    return {name: own[name].help if name in own else "" for name in registry}


def _specs(registry: Registry[Any], word: str) -> tuple[str, Values]:
    """Those of models or data, each with its colon where something must follow, and files, also after a colon."""
    name, colon, _ = word.partition(":")
    if colon:
        following = {
            f"{name}:{text}": "" for text in FOLLOWING.get(name, ()) if word != f"{name}:{text}" or text[-1] != ":"
        }
        known = _starting(following, word)
        return "" if known or name == "python" else f"files\t{word[: word.rindex(':') + 1]}", known
    written = dict(zip(registry, registry.specs(), strict=True))
    known = {
        f"{name}:" if written[name].startswith(f"{name}:") else name: help
        for name, help in _records(registry).items()
        if written[name].startswith(name)  # what is no file
    }
    return "files\t", _starting(known, word)


def _listed(known: Values, word: str) -> Values:
    """The values of what may be several, by commas."""
    head = word[: word.rfind(",") + 1]
    return _after(head, "", _starting(known, word[len(head) :]))[1]


def _starting(known: Values, word: str) -> Values:
    return {value: help for value, help in known.items() if value.startswith(word)}


def _after(head: str, place: str, values: Values) -> tuple[str, Values]:
    """The same behind what is written already."""
    kind, tab, prefix = place.partition("\t")
    return f"{kind}{tab}{head}{prefix}" if kind else "", {f"{head}{value}": help for value, help in values.items()}
