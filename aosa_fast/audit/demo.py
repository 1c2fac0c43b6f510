"""Does an audit find shortcuts? Planted clips, networks that took the shortcuts and one that did not, and a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosa_fast.audit.driver import audit
from aosa_fast.audit.findings.summary import summarize
from aosa_fast.audit.findings.types import (
    BESIDE,
    BORDER,
    LABEL,
    OVERLAY,
    PLACE,
    SHORTCUT,
    TIME,
    AuditSummary,
    Finding,
)
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.data import open_dataset
from aosa_fast.data.planted import PlantedDataset, true_label
from aosa_fast.demo.planted import ATTENTION_SEED, CLASS_NAMES, CORNERS, SEEDS, Cue, make_plan
from aosa_fast.files import refuse_link
from aosa_fast.progress import Progress

# What a finding says of the place of each kind of cue.
PLACES = {"logo": (OVERLAY, PLACE), "border": (BORDER,), "flash": (TIME,), "object": (BESIDE,)}


@dataclass(frozen=True)
class Score:
    """What an audit of planted clips found of what was planted."""

    seed: int  # of the plan
    model: str  # the network, as in `aosa_fast.models.load`
    planted: int  # classes with a cue that the network follows
    found: int  # how many of them are named as shortcuts
    placed: int  # how many of these with the right kind and place
    clean_named: int  # classes named that have no cue, or whose cue the network does not follow
    wrong: int  # clips with a wrong label
    suspected: int  # clips that label findings name
    right: int  # how many of these have a wrong label
    missed: tuple[str, ...]  # what is not as planted, one line each


def run_demo(
    out: Path, clips: int, *, seeds: Sequence[int] = SEEDS, progress: Callable[[str], Progress] | None = None
) -> list[Score]:
    """Audits the planted set of each seed with the network that was trained on its cues, and with one that was not.

    Where there is one with attention that was trained on them, with that as well.

    Args:
        out: a folder for each audit is made in it.
        clips: how many each audit has.
        seeds: of the plans.
        progress: gives what `audit` reports to, from the model's name.

    Returns:
        A score for each audit.
    """
    scores = []
    for seed in seeds:
        networks = [(str(seed), "shortcuts"), ("none", "none")]
        if seed == ATTENTION_SEED:
            networks.insert(1, ("attention", "attention"))
        for network, name in networks:
            model, folder = f"demo-planted:{network}", out / f"{seed}-{name}"
            refuse_link(folder, "folder")
            request = AuditRequest(f"planted:{seed}", model, folder, AuditSettings(), limit=clips)
            audit(request, progress(model) if progress else None)
            scores.append(score(summarize(folder), seed, model, clips, follows=network != "none"))
    return scores


def score(summary: AuditSummary, seed: int, model: str, clips: int, *, follows: bool) -> Score:
    """Holds the findings of an audit of so many clips of `planted:SEED` against the plan.

    `follows` says whether the network follows the cues.
    """
    plan = make_plan(seed)
    named: dict[int, list[Finding]] = {}
    for finding in summary.findings:
        if finding.kind == SHORTCUT and finding.class_index is not None:
            named.setdefault(finding.class_index, []).append(finding)
    planted = {label: cue for label, cue in enumerate(plan.cues) if cue is not None and follows}
    missed = [f"{CLASS_NAMES[c]}: {cue.kind} not found" for c, cue in planted.items() if c not in named]
    placed = 0
    for label, findings in named.items():
        if label not in planted:
            missed.append(f"{CLASS_NAMES[label]}: named without a cue: {findings[0].text}")
        elif is_placed(findings[0], planted[label]):
            placed += 1
        else:
            missed.append(f"{CLASS_NAMES[label]}: {planted[label].kind}, but: {findings[0].text}")
    dataset = open_dataset(f"planted:{seed}").select(limit=clips)
    assert isinstance(dataset, PlantedDataset)
    wrong = {sample.id for sample in dataset.samples if sample.label != true_label(sample.seed or 0)}
    suspected = {clip for finding in summary.findings if finding.kind == LABEL for clip in finding.clips}
    return Score(
        seed=seed,
        model=model,
        planted=len(planted),
        found=sum(label in named for label in planted),
        placed=placed,
        clean_named=sum(label not in planted for label in named),
        wrong=len(wrong),
        suspected=len(suspected),
        right=len(wrong & suspected),
        missed=tuple(missed),
    )


def is_placed(finding: Finding, cue: Cue) -> bool:
    """Whether a finding says of what kind a cue is and where."""
    if finding.where not in PLACES[cue.kind]:
        return False
    if cue.kind == "logo":
        return f"{CORNERS[cue.corner]} corner" in finding.text
    return cue.kind != "flash" or cue.frame // 2 in finding.frames


def table(scores: Sequence[Score]) -> str:
    """The scores in Markdown."""
    lines = [
        "| data | network | shortcuts found | kind and place right | clean classes named "
        "| label precision | label recall |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for own in scores:
        lines.append(
            f"| planted:{own.seed} | {own.model} | {own.found} of {own.planted} | {own.placed} of {own.planted} | "
            f"{own.clean_named} of {len(CLASS_NAMES) - own.planted} | "
            f"{_share(own.right, own.suspected)} | {_share(own.right, own.wrong)} |"
        )
    lines += [f"- planted:{own.seed}, {own.model}: {text}" for own in scores for text in own.missed]
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    return f"{count / total:.2f} ({count} of {total})" if total else "-"
