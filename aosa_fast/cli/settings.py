"""Options of a command in a TOML file: --config reads them, --save-config writes them. torch is not loaded here.

The command line goes before the file, and the file before the defaults. A value of the file is read as the command line
reads it, so that the same is refused in the same words, and the file is named.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.boundary import read_bytes, reading
from aosa_fast.cli.options import option, read_config, with_parameters
from aosa_fast.config import COMMON, own_options
from aosa_fast.errors import InputError
from aosa_fast.files import atomic_path
from aosa_fast.registry import nearest
from aosa_fast.version import __version__


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """A command with the options --config and --save-config as well."""

    def run(**options: Any) -> None:
        context, path, save = (options.pop(name) for name in own)
        with _naming(path, context):
            if save is not None:
                _save(save, context)
            function(**options)

    run.__doc__ = function.__doc__
    own = inspect.signature(_settings, eval_str=True).parameters
    return with_parameters([*inspect.signature(function, eval_str=True).parameters.values(), *own.values()])(run)


def _read(context: typer.Context, path: Path | None) -> Path | None:
    """Makes defaults of a file's options, each of them checked; as a callback, before all others are looked at."""
    if path is None or context.resilient_parsing:
        return path
    with reading(path, "must be a TOML file"):
        content = tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    known = {_key(param): param for param in _params(context)}
    context.default_map = {}
    for key, value in _table(path, content, context).items():
        param = known.get(key.replace("_", "-"))
        if param is None:
            hint = nearest(key.replace("_", "-"), known)
            raise InputError(f"{path}: must hold options of {context.info_name}; got {key}{hint}")
        if param.name in context.default_map:
            raise InputError(f"{path}: {key} must be given once, with - or with _; got both")
        context.default_map[param.name] = _as_written(f"{path}: {key}", param, value)
        try:
            param.process_value(context, context.default_map[param.name])
        except typer.BadParameter as error:
            got = "" if str(value) in error.message else f"; got {value!r}"
            raise InputError(f"{path}: {key}: {error.message.rstrip('.')}{got}") from None
    return path


def _settings(
    *,
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        option(
            "Take arguments and options from a TOML file, by their long names, at its top or in a table named after "
            "the command; the command line goes before it.",
            "file",
            "--config",
            is_eager=True,
            callback=_read,
            metavar="FILE.toml",
        ),
    ] = None,
    save_config: Annotated[
        Path | None,
        option(
            "Write such a file before the work begins: every argument and option as it is used, defaults too.",
            "file",
            metavar="FILE.toml",
        ),
    ] = None,
) -> None:
    """What `with_settings` adds to a command's parameters."""


def _params(context: typer.Context) -> list[Any]:
    """The arguments and options that a file may hold."""
    return [param for param in context.command.params if param.name not in ("config_file", "save_config")]


def _key(param: Any) -> str:
    """The name of an option in a file: its long one; that of an argument, its own."""
    long = [text[2:] for text in param.opts if text.startswith("--")]
    return str(long[0] if long else param.name.replace("_", "-"))


def _table(path: Path, content: dict[str, Any], context: typer.Context) -> dict[str, Any]:
    """The options of a command in a file that is for it alone, or has a table for each command."""
    if not any(isinstance(value, dict) for value in content.values()):
        return content
    commands = context.parent.command.commands  # type: ignore[union-attr]
    for name, value in content.items():
        if not isinstance(value, dict):
            raise InputError(f"{path}: must hold tables of commands, or options of one command; got {name} and tables")
        if name not in commands:
            raise InputError(f"{path}: must hold tables named after commands; got [{name}]{nearest(name, commands)}")
    if context.info_name not in content:
        raise InputError(f"{path}: must have a table [{context.info_name}]; got [{'], ['.join(content)}]")
    return content[context.info_name]


def _as_written(what: str, param: Any, value: Any) -> Any:
    """A value of a file as the command line would have it: texts, and a bool for a flag."""
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise InputError(f"{what} must be true or false; got {value!r}")
        return value
    listed = param.multiple or param.nargs == -1
    takes_list = listed or "," in (param.metavar or "")
    parts = value if isinstance(value, list) and takes_list else [value]
    if not parts or any(type(part) not in (str, int, float) for part in parts):
        kind = "a text, a number, or a list of some" if takes_list else "one text or number, as on the command line"
        raise InputError(f"{what} must be {kind}; got {value!r}")
    texts = [str(part) for part in parts]
    return texts if listed else ",".join(texts)


@contextmanager
def _naming(path: Path | None, context: typer.Context) -> Iterator[None]:
    """Around the work: an error about a value that comes from the file names the file."""
    try:
        yield
    except InputError as error:
        text = str(error)
        named = re.split("[ ,=]+", text.partition(" must ")[0])
        for name, value in (context.default_map or {}).items():
            source = context.get_parameter_source(name)
            if source is None or source.name != "DEFAULT_MAP":
                continue
            if name in named:
                raise InputError(f"{path}: {text}") from error
            if any(text.startswith(f"{part}: ") for part in (value if isinstance(value, list) else [value])):
                raise InputError(f"{path}: {name}={text}") from error
        raise


def _save(path: Path, context: typer.Context) -> None:
    """Writes what a command is called with; a value that is left open has no line, for TOML has no word for it."""
    values = {param: context.params.get(param.name) for param in _params(context)}
    choices = COMMON | own_options()
    given = {param.name: value for param, value in values.items() if value is not None}
    read_config({name: value for name, value in given.items() if name in choices})  # refused before anything is written
    lines = [f"{_key(param)} = {_toml(value)}\n" for param, value in values.items() if value not in (None, (), [])]
    text = f"# Options of aosa-fast {__version__}\n[{context.info_name}]\n{''.join(lines)}"
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: must hold text that is UTF-8; got {error.object[error.start : error.end]!r}"
        ) from None
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str | os.PathLike):  # JSON escapes what TOML wants escaped, but for DEL
        return json.dumps(os.fspath(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
