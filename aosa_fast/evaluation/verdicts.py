"""What a table does not show about the model, in words."""

from __future__ import annotations

from collections.abc import Sequence

from aosa_fast.evaluation.bootstrap import Estimate
from aosa_fast.evaluation.measured import COLUMNS, Measured
from aosa_fast.evaluation.metrics import MAIN_COLUMNS, Row
from aosa_fast.evaluation.table import is_baseline, plain_heading
from aosa_fast.methods.registry import METHODS

# The controls that know neither the model nor the clip: what points better than these with random weights points by
# what is in the clip.
_BLIND = ("random", "centre")


def compare_with_controls(rows: Sequence[Row], methods: Sequence[str], *, seed: int = 0) -> str:
    """For each main column the methods that are not distinguishably above every control, in a sentence.

    Differences are paired, on the clips that both methods have, and their 95 % interval must exclude 0; see
    `Estimate.excludes_zero`, which fewer than 6 clips never do.

    Args:
        rows: see `table.summarise`.
        methods: all that ran, the controls among them.
        seed: of the bootstrap.

    Returns:
        A section in Markdown; nothing where no method knows the model, or no main column has a value.
    """
    data = Measured(rows)
    asked = [name for name in methods if not is_baseline(name)]
    lines = []
    for key in MAIN_COLUMNS:
        controls = [name for name in methods if is_baseline(name) and _has(data, key, name)]
        shown = [name for name in asked if _has(data, key, name)]
        if not shown:
            continue
        heading = plain_heading(COLUMNS[key])
        if not controls:
            lines.append(f"- {heading}: no control has a value; whether this needs the model is not known.")
            continue
        low = [name for name in shown if not _above(data, key, key, name, controls, seed)]
        if low:
            lines.append(
                f"- {heading}: not distinguishably above every control ({', '.join(controls)}): {', '.join(low)}. "
                "Such a method shows nothing about the model there."
            )
        else:
            lines.append(f"- {heading}: every method is distinguishably above every control ({', '.join(controls)}).")
    if not lines:
        return ""
    if not any(is_baseline(name) for name in methods):
        known = ", ".join(method.name for method in METHODS.own() if not method.knows_model)
        lines = [f"No control was run ({known}): whether any of these numbers needs the model is not known."]
    title = "## Against the controls, which know nothing of the model"
    return "\n\n".join([title, "\n".join(lines), *_pointing(data, asked, methods, seed)])


def _pointing(data: Measured, asked: Sequence[str], methods: Sequence[str], seed: int) -> list[str]:
    """What is to be said of methods that still point where all weights are random."""
    blind = [name for name in methods if name.partition(":")[0] in _BLIND and _has(data, "spt_micro", name)]
    found = [name for name in asked if _has(data, "random_spt", name)]
    still = [name for name in found if blind and _above(data, "random_spt", "spt_micro", name, blind, seed)]
    if not still:
        return []
    return [
        f"With all weights random these still point at the boxes, better than {' and '.join(blind)}: "
        f"{', '.join(still)}. So far their pointing is the clip's, not the model's."
    ]


def _above(data: Measured, key: str, other: str, name: str, controls: Sequence[str], seed: int) -> bool:
    """Whether a method's column is above another column of every control."""
    return all(_is_above(data.difference(COLUMNS[key], name, control, seed, COLUMNS[other])) for control in controls)


def _is_above(difference: Estimate) -> bool:
    return difference.excludes_zero and difference.mean > 0


def _has(data: Measured, key: str, name: str) -> bool:
    return data.count(COLUMNS[key], name) > 0
