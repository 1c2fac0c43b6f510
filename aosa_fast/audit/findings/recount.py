"""How many clips show a shortcut that was found in a sample, and which show it most clearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import MOST_CLIPS, Clips, PlainClips
from aosa_fast.audit.findings.shortcuts import profiles
from aosa_fast.audit.findings.types import Finding


class Recount:
    """Takes the shortcuts of a sample, and then all clips a few at a time."""

    def __init__(self, shortcuts: Sequence[Finding]) -> None:
        self._shortcuts = shortcuts
        self._counts = [0] * len(shortcuts)
        self._clearest: list[tuple[NDArray[np.floating], NDArray[Any]]] = [
            (np.empty(0), np.empty(0, object)) for _ in shortcuts
        ]

    def add(self, clips: Clips) -> None:
        """Looks at more clips."""
        if not self._shortcuts:
            return
        shares = profiles(clips, less_motion=False)
        for number, finding in enumerate(self._shortcuts):
            region, own = finding.showing, clips.members.get(-1 if finding.class_index is None else finding.class_index)
            if region is None or own is None:
                continue
            own = own[clips.has_map[own]]
            mine = shares[region.profile][own][:, region.cells].sum(1)
            showing = mine >= region.least
            self._counts[number] += int(showing.sum())
            known, ids = self._clearest[number]
            known, ids = np.append(known, mine[showing]), np.append(ids, clips["id"][own[showing]])
            order = np.argsort(-known, kind="stable")[:MOST_CLIPS]
            self._clearest[number] = known[order], ids[order]

    def findings(self, rows: PlainClips) -> list[Finding]:
        """The shortcuts, as counted in `rows`, which are all clips.

        Of those that some clips of a class have, a cluster, the count is that of the sample in proportion.
        """
        found = []
        for finding, count, (_, ids) in zip(self._shortcuts, self._counts, self._clearest, strict=True):
            of_class = int(rows.has_map[rows.members[int(finding.class_index or 0)]].sum())
            detail = {**finding.detail, "clips_of_class": float(of_class)}
            if finding.showing is None:
                found.append(replace(finding, count=round(detail["share_of_clips"] * of_class), detail=detail))
            else:
                found.append(replace(finding, count=count, clips=tuple(map(str, ids)), detail=detail))
        return found
