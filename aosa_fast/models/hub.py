"""Folders of transformers' models: given, in the cache of Hugging Face, or fetched into it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from aosa_fast.boundary import read_json, reading
from aosa_fast.errors import InputError
from aosa_fast.models.downloads import HINT, downloads_allowed, fetching

_PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")


def find_folder(spec: str, rest: str) -> str:
    """A folder with config.json: `rest` itself, or that of the model with this id.

    Raises:
        InputError: there is none, and none may or can be fetched.
    """
    folder = rest if os.path.isdir(rest) else _snapshot(spec, rest)
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise InputError(f"{folder}: must hold config.json and the weights of a transformers model")
    return folder


def _snapshot(spec: str, rest: str) -> str:
    """The folder of a model in Hugging Face's cache, which is fetched if it is not all there and that is allowed."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    found = None
    with suppress(HFValidationError, LocalEntryNotFoundError):
        found, whole = _files(rest, local_files_only=True)
        # transformers fetches a model without its preprocessor's file.
        if whole and (find_preprocessor(found) or not downloads_allowed()):
            return found
    if downloads_allowed():
        with fetching(spec, f"{constants.ENDPOINT}/{rest}"):
            try:
                found, _ = _files(rest)
            except GatedRepoError:
                raise InputError("no access: accept its terms there, and log in (hf auth login)") from None
            except RepositoryNotFoundError:
                raise InputError("no such model, or one that needs a login (hf auth login)") from None
    if found is None:
        raise InputError(
            f"model={spec} must be a folder, or a model in the cache of Hugging Face; download it from "
            f"https://huggingface.co/{rest} (hf download {rest}), {HINT}, or give its folder as hf:FOLDER"
        )
    return found


def _files(rest: str, **options: Any) -> tuple[str, bool]:
    """A model's folder in the cache, and whether it holds all weights; of the older kind only if it has no others."""
    from huggingface_hub import snapshot_download

    for kind in (".safetensors", ".bin"):
        wanted = {"allow_patterns": ["*.json", f"*{kind}"], "ignore_patterns": "*/*"}
        folder: str = snapshot_download(rest, **wanted, **options)
        names = set(os.listdir(folder))
        if any(name.endswith(kind) for name in names):
            indices = (name for name in names if name.endswith(f"{kind}.index.json"))
            return folder, all(_shards(os.path.join(folder, index)) <= names for index in indices)
    return folder, False


def _shards(index: str) -> set[str]:
    with reading(index, "must be an index of weights as transformers writes it"):
        return set(read_object(index)["weight_map"].values())


def find_preprocessor(folder: str) -> str | None:
    """The file of a folder that says how frames become the input, or None."""
    return next((p for p in (os.path.join(folder, name) for name in _PREPROCESSORS) if os.path.isfile(p)), None)


def read_object(path: str) -> dict[str, Any]:
    """What a JSON file holds, which must be an object. Raises InputError."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold an object; got {type(content).__name__}")
    return content
