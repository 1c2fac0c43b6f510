"""Checkpoints of VideoMAE's own repository, beside the config.json of transformers that their network has."""

from __future__ import annotations

import os
import re

from torch import Tensor

from aosa_fast.errors import InputError
from aosa_fast.models.checkpoints import read_state

# From there to the older of transformers' names, which all its versions read.
_NAMES = {
    r"^patch_embed\.proj\.": "videomae.embeddings.patch_embeddings.projection.",
    r"^blocks\.": "videomae.encoder.layer.",
    r"\.norm1\.": ".layernorm_before.",
    r"\.norm2\.": ".layernorm_after.",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.attn\.": ".attention.attention.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
    r"^norm\.": "videomae.layernorm.",
    r"^head\.": "classifier.",
}


def find_original(folder: str) -> str | None:
    """The .pth file of a folder without weights of transformers; None if there is none.

    Raises:
        InputError: more than one.
    """
    names = sorted(os.listdir(folder))
    found = [name for name in names if name.endswith(".pth")]
    # Its Trainer leaves other files of these kinds, such as training_args.bin.
    known = any(re.fullmatch(r"(pytorch_)?model\b.*\.(safetensors|bin)", name) for name in names)
    if known or not found:
        return None
    if len(found) > 1:
        raise InputError(f"{folder}: must hold one checkpoint FILE.pth; got {', '.join(found[:3])}")
    return os.path.join(folder, found[0])


def read_original(path: str) -> dict[str, Tensor]:
    """Its weights by transformers' names; those that are not known keep their own.

    Raises:
        InputError: as `read_state`.
    """
    state: dict[str, Tensor] = {}
    for name, value in read_state(path).items():
        for old, new in _NAMES.items():
            name = re.sub(old, new, name)
        prefix, _, rest = name.rpartition("qkv.")
        if rest == "weight" and value.ndim == 2 and len(value) % 3 == 0:
            state |= zip((f"{prefix}{part}.weight" for part in ("query", "key", "value")), value.chunk(3), strict=True)
        else:
            state[name] = value
    return state
