"""Whether the data alone carry what a finding is about: the pictures of a class against those of others, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.appearance import unpack
from aosa_fast.audit.findings.draw import SOURCE, Draw
from aosa_fast.audit.findings.permutation import LEAST_CLIPS
from aosa_fast.audit.findings.places import ring
from aosa_fast.audit.findings.types import BORDER, SHORTCUT, Finding
from aosa_fast.audit.store.parts import iter_rows
from aosa_fast.audit.store.schema import GRID
from aosa_fast.audit.tasks import OK, Row
from aosa_fast.boundary import reading

Floats = NDArray[np.float64]
_MOST = 100  # clips of a class
_OTHERS = 300  # of all others together
_LEVEL = 0.5  # of 255, the least standard deviation of a cell: what hardly varies was rounded
_SIGNIFICANCE = 0.05


def examine_pictures(
    folder: Path, findings: Sequence[Finding], classes: int, *, permutations: int = 999, seed: int = 0
) -> tuple[Finding, ...]:
    """The findings, where they name cells of the frame or parts of the clip, with what the pictures say of these.

    Mean colour and change (the column `appearance`) of the class' clips are held against those of as many clips of
    each other class, one of each source. Classes are those of the labels; what a map explains, where there is none. A
    permutation test of the largest difference in the cells in question, in standard deviations, gives the p-value.
    `classes` is how many there are: of many, few clips of each have to be kept.

    Raises:
        InputError: the rows cannot be read.
    """
    if not any(map(_asks, findings)):
        return tuple(findings)
    asked = {finding.class_index for finding in findings if _asks(finding)}
    each = max(1, _OTHERS // max(1, classes - 1))
    named, others = Draw(_MOST, seed), Draw(each, seed)
    for batch in iter_rows(folder, ("id", "status", "label", "target", *SOURCE)):
        for row in batch.to_pylist():
            if row["status"] == OK and row["appearance"] is not None:
                label = row["target"] if row["label"] is None else row["label"]
                others.add(label, row)
                if label in asked:
                    named.add(label, row)
    told = []
    with reading(folder, "must hold rows as an audit writes them"):
        for one in findings:
            if _asks(one):
                beside = [row for label in others.classes if label != one.class_index for row in others.rows(label)]
                one = replace(one, pictures=_test(one, named.rows(one.class_index), beside, permutations, seed))
            told.append(one)
    return tuple(told)


def _asks(finding: Finding) -> bool:
    return finding.kind == SHORTCUT and (bool(finding.boxes or finding.frames) or finding.where == BORDER)


def _test(finding: Finding, own: Sequence[Row], beside: Sequence[Row], permutations: int, seed: int) -> str:
    if min(len(own), len(beside)) < LEAST_CLIPS:
        return ""
    cells, parts = unpack([row["appearance"] for row in (*own, *beside)])
    if finding.frames:
        # A clip's own light is not what marks one part of it.
        values = parts - np.median(parts, axis=1, keepdims=True)
        asked, what = np.isin(np.arange(GRID[0]), finding.frames), f"{GRID[0]} parts of the clip"
    else:
        values = cells.reshape(len(cells), -1, cells.shape[-1]).astype(np.float64)
        asked, what = ring() if finding.where == BORDER else np.zeros(GRID[1:], bool), f"{ring().size} cells"
        for cell in finding.boxes:
            asked[cell] = True
    found, chance = _differences(values, len(own), permutations, np.random.default_rng(seed))
    asked = asked.ravel()
    p_value = (1 + int((chance[:, asked].max(axis=1) >= found[asked].max()).sum())) / (1 + permutations)
    if p_value > _SIGNIFICANCE:
        return f"The pictures themselves do not differ there (p = {p_value:.2g})."
    differ = int((found > np.quantile(chance.max(axis=1), 1 - _SIGNIFICANCE)).sum())
    return f"The pictures themselves differ there (p = {p_value:.2g}); they do so in {differ} of {what}."


def _differences(values: Floats, own: int, permutations: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """How far the first `own` of n clips are from the others, in each cell of values (n, cells, channels).

    The largest over the channels of the difference of means, in standard deviations over all clips.

    Returns:
        (cells,), and (permutations, cells) of clips that change places.
    """
    count = len(values)
    flat = values.reshape(count, -1)
    flat = (flat - flat.mean(axis=0)) / np.maximum(flat.std(axis=0), _LEVEL)
    order = rng.random((permutations, count)).argsort(axis=1)
    chosen = np.concatenate([np.arange(count)[None], order]) < own  # the first: as they are
    # Values are centred: the mean of the others follows from that of these.
    gaps = np.abs(chosen.astype(np.float64) @ flat) * (1 / own + 1 / (count - own))
    largest = gaps.reshape(len(chosen), *values.shape[1:]).max(axis=2)
    return largest[0], largest[1:]
