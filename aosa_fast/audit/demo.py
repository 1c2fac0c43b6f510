"""Does an audit find shortcuts? Planted clips, networks that took the shortcuts and one that did not, and a score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosa_fast.audit.driver import AuditRequest, Report, audit
from aosa_fast.audit.findings.summary import summarize
from aosa_fast.audit.findings.types import LABEL, SHORTCUT, AuditSummary, Finding
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.data import open_dataset
from aosa_fast.data.planted import PlantedDataset, true_label
from aosa_fast.demo.planted import CLASS_NAMES, CORNERS, SEEDS, Cue, make_plan
from aosa_fast.files import refuse_link

# What a finding says of the place of each kind of cue.
PLACES = {
    "logo": ("static overlay", "place"),
    "border": ("border",),
    "flash": ("time",),
    "object": ("beside the motion",),
}


@dataclass(frozen=True)
class Score:
    """What an audit of planted clips found of what was planted.

    Attributes:
        seed: of the plan.
        model: the network, as in `aosa_fast.models.load`.
        planted: classes with a cue that the network follows.
        found: how many of them are named as shortcuts.
        placed: how many of these with the right kind and place.
        clean_named: classes named that have no cue, or whose cue the network does not follow.
        wrong: clips with a wrong label.
        suspected: clips that label findings name.
        right: how many of these have a wrong label.
        missed: what is not as planted, one line each.
    """

    seed: int
    model: str
    planted: int
    found: int
    placed: int
    clean_named: int
    wrong: int
    suspected: int
    right: int
    missed: tuple[str, ...]

    @property
    def precision(self) -> float | None:
        """Of the label findings."""
        return self.right / self.suspected if self.suspected else None

    @property
    def recall(self) -> float | None:
        """Of the label findings."""
        return self.right / self.wrong if self.wrong else None


def run_demo(
    out: Path,
    clips: int,
    *,
    seeds: Sequence[int] = SEEDS,
    networks: Sequence[str] = ("", "none"),
    progress: Callable[[str], Report] | None = None,
) -> list[Score]:
    """Audits the planted set of each seed with the network that was trained on its cues, and with one that was not.

    Args:
        out: a folder for each audit is made in it.
        clips: of each audit.
        seeds: of the plans.
        networks: "" for the seed's own network, "none" for the one that learnt that cues say nothing.
        progress: gives what `audit` reports to, from the model's name.

    Returns:
        A score for each audit.
    """
    scores = []
    for seed in seeds:
        for network in networks:
            model = f"demo-planted:{network or seed}"
            folder = out / f"{seed}-{network or 'shortcuts'}"
            refuse_link(folder, "folder")
            request = AuditRequest(
                data=f"planted:{seed}", model=model, out=folder, settings=AuditSettings(), limit=clips
            )
            audit(request, progress(model) if progress else None)
            scores.append(score(summarize(folder), seed, model, clips, follows=not network))
    return scores


def score(summary: AuditSummary, seed: int, model: str, clips: int, *, follows: bool) -> Score:
    """Holds findings against the plan.

    Args:
        summary: of an audit of `planted:SEED`.
        seed: of the plan.
        model: the network's name.
        clips: how many were audited.
        follows: whether the network follows the cues.
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
            f"{_share(own.precision, own.right, own.suspected)} | {_share(own.recall, own.right, own.wrong)} |"
        )
    lines += [f"- planted:{own.seed}, {own.model}: {text}" for own in scores for text in own.missed]
    return "\n".join(lines)


def _share(value: float | None, count: int, total: int) -> str:
    return "-" if value is None else f"{value:.2f} ({count} of {total})"
