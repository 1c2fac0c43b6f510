"""Prints figures as they come, their targets beside them, and keeps their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from aosa_fast.bench.harness import Seconds
from aosa_fast.bench.machine import OtherWork, describe_machine, load
from aosa_fast.bench.rows import Row, write_run

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}


@dataclass(frozen=True)
class Target:
    """What is to be reached: `sign` is "<=" or ">="."""

    sign: str
    value: float

    def met(self, value: float) -> bool:
        """Whether the figure reaches it; NaN does not."""
        return value <= self.value if self.sign == "<=" else value >= self.value


class Report:
    """Prints each figure as it comes, its target beside it, and keeps the rows."""

    def __init__(
        self, part: str = "", accelerator: str = "", remark: str = "", json: Path | None = None, quick: bool = False
    ) -> None:
        """Takes what rows have in common.

        Args:
            part: whose figures come, until another one is set.
            accelerator: first in the rows' machine.
            remark: printed behind every figure.
            json: a file that is written anew with each row.
            quick: whether the figures rest on few rounds, for that file.
        """
        self.part, self.remark = part, remark
        self.rows: list[Row] = []
        self.targets: list[tuple[str, float, str, Target]] = []
        self._json, self._quick = json, quick
        self._load = load()
        self._other_work = OtherWork()
        self._fixed = describe_machine(accelerator)
        self.machine = ", ".join(f"{name} {value}" for name, value in self._fixed.items())

    def section(self, title: str) -> None:
        """Prints a heading; the load on record is that of the section."""
        self._load = load()
        self._other_work = OtherWork()
        print(f"\n{title}\n{'':2}{'case':46} {'metric':24} {'p50':>9} {'p20':>9} {'p80':>9} unit     thr  target")

    def time(
        self,
        case: str,
        seconds: Sequence[float],
        unit: str = "ms",
        target: Target | None = None,
        *,
        metric: str = "time",
        per: int = 1,
        note: str = "",
    ) -> float:
        """Adds a time from the seconds of its rounds, of which `per` things were done each, with the peak memory."""
        values = [_PER_SECOND[unit] * s / per for s in seconds]
        peak = seconds.peak if isinstance(seconds, Seconds) else None
        return self.add(case, metric, unit, values, target, note, peak=peak)

    def add(
        self,
        case: str,
        metric: str,
        unit: str,
        values: Sequence[float],
        target: Target | None = None,
        note: str = "",
        *,
        peak: float | None = None,
    ) -> float:
        """Adds one figure from its rounds, and gives back its median; `note` is only printed."""
        p20, p50, p80 = (float(v) for v in np.percentile(values, [20, 50, 80]))
        verdict = ""
        if target:
            verdict = f"{target.sign} {target.value:g}: {'met' if target.met(p50) else 'MISSED'}"
            self.targets.append((f"{case}, {metric}", p50, unit, target))
        count = torch.get_num_threads()
        held = "" if peak is None else f"{peak:.3g} MB"
        words = "; ".join(word for word in (verdict, note, held, self.remark) if word)
        print(f"  {case:46} {metric:24} {p50:9.4g} {p20:9.4g} {p80:9.4g} {unit:8} {count:3}  {words}", flush=True)
        names = {"part": self.part, "case": case, "metric": metric, "unit": unit}
        figures = {"value": p50, "p20": p20, "p80": p80, "repeats": len(values), "peak_mb": peak}
        state = {"threads": count, "load": f"{self._load:.2f}", "others": f"{self._other_work.cores():.2f}"}
        stamp = {"utc": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": [float(v) for v in values]}
        self.rows.append({**names, **figures, **state, **self._fixed, **stamp})
        if self._json is not None:
            write_run(self._json, self.rows, self._quick)
        return p50

    def summary(self) -> None:
        """Prints the targets again, together."""
        if self.targets:
            print("\nTargets" + (", of few rounds" if self._quick else ""))
        for name, value, unit, target in self.targets:
            verdict = f"{'met' if target.met(value) else 'MISSED'} {self.remark}".rstrip()
            print(f"  {name:72} {value:9.4g} {unit:6} {target.sign} {target.value:<6g} {verdict}")
