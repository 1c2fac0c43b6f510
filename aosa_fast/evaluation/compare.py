"""One clip, several methods: the function behind `aosa_fast.compare` and the command of that name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Unpack

import torch

from aosa_fast.config import Config
from aosa_fast.display.comparison import Comparison
from aosa_fast.errors import InputError
from aosa_fast.evaluation.entries import parse_entries, split_names
from aosa_fast.evaluation.scale import scaled_grid
from aosa_fast.explanation import Explanation
from aosa_fast.inputs import AnyArguments, AnyModel, Given, Video, unpack
from aosa_fast.pipeline import explain
from aosa_fast.progress import Report, show_progress
from aosa_fast.targets import Difference, Target

COMPARED = ("grad-cam", "osa", "smoothgrad", "aosa", "aosa-approx", "aosa-path")


def compare(
    model: AnyModel,
    video: Video,
    methods: str | Sequence[str] = COMPARED,
    target: Target = "pred",
    **arguments: Unpack[AnyArguments],
) -> Comparison[Explanation]:
    """Explains clips with several methods, and puts the maps into one picture, a row for each method.

        aosa_fast.compare("demo", "clip.mp4", ["grad-cam", "aosa", "aosa:stride=4"]).save("compare.png")

    The file is read once, and all methods explain the class that the first one does.

    Args:
        model: as for `aosa_fast.explain`, as is all else that is not described here.
        video: likewise.
        methods: their names, each with the fields of `Config` in which it differs, as on the command line:
            "aosa:stride=4:partners=0"; a list, or one text with commas. `aosa_fast.list_methods()` has them all.
        target: likewise, but one only, not a list.
        arguments: all others of `aosa_fast.explain` but `method`, for all methods. Without a `config`, `stride` and
            `box` are by default those of the paper, 8 and 16 pixels for clips whose shorter side has 112, scaled to
            that of these clips. A step of `progress` is a method.

    Returns:
        A `Comparison`, which a notebook shows; its `explanations` are named as the methods were written.

    Raises:
        InputError: an unknown method or field, one twice, a method that cannot explain this model, or as for
            `aosa_fast.explain`.
        TypeError: as there.
    """
    choices: dict[str, Any] = {**arguments}
    if isinstance(target, list):
        raise InputError(f"target must be one, for all methods; got a list of {len(target)}")
    if "method" in choices:
        raise InputError(f"method must be among methods; got method={choices['method']}")
    config: Config | None = choices.pop("config", None)
    progress: Report | None = choices.pop("progress", None)
    given = Given(**{field.name: choices.pop(field.name) for field in fields(Given) if field.name in choices})
    if isinstance(given.flow, str):
        choices["flow"], given = given.flow, replace(given, flow=None)
    asked = unpack(model, video, given)
    given = replace(asked.given, start=None, preprocessing=None)  # both are applied
    size = asked.video.shape[2:4] if asked.video.dtype == torch.uint8 else asked.video.shape[3:]
    config = replace(config or Config(**scaled_grid(size)), **choices)
    found: dict[str, Explanation] = {}
    entries = parse_entries(split_names([methods] if isinstance(methods, str) else methods), config)
    with show_progress(progress, "compare") as step:
        for number, entry in enumerate(entries):
            step(number, len(entries), entry.name)
            one = explain(asked.model, asked.video, target, config=entry.config, **vars(given))
            one.display = asked.display
            if asked.source is not None:
                one.metadata["source"] = asked.source
            target = one.target.index if one.target.minus is None else Difference(one.target.index, one.target.minus)
            found[entry.name] = one
    return Comparison(found)
