"""Answers that need no motion: a shortcut that all classes share shows there, where a class' own is looked for."""

from __future__ import annotations

import numpy as np

from aosa_fast.audit.findings.clips import Clips
from aosa_fast.audit.findings.types import ONE_FRAME, SHORTCUT, Finding

_LEAST_CLIPS = 20
_LEAST_AGREEMENT = 0.5


def find_static(clips: Clips) -> list[Finding]:
    """One finding for the whole data where one repeated frame mostly gives the same answer as the clip.

    Of the clips that were asked so, one of each class and source: the share whose best class stays the explained one,
    held against chance, as Cohen's kappa does: a model that says one class whenever nothing moves agrees with itself as
    often as it says that class. Named where kappa is 0.5 at least at the lower end of the share's 95 % interval.
    """
    from scipy.stats import binomtest

    asked = np.flatnonzero(np.isfinite(clips["static_prediction"]))
    pairs = np.column_stack([clips.target[asked], clips.source[asked]])
    asked = asked[np.unique(pairs, axis=0, return_index=True)[1]]
    if len(asked) < _LEAST_CLIPS:
        return []
    said, whole = clips["static_prediction"][asked].astype(np.int64), clips.target[asked]
    same = said == whole
    chance = float(sum((said == label).mean() * (whole == label).mean() for label in np.unique(whole)))
    low, high = binomtest(int(same.sum()), len(same)).proportion_ci(method="wilson")
    if chance == 1 or (low - chance) / (1 - chance) < _LEAST_AGREEMENT:
        return []
    share = float(same.mean())
    showing = asked[same]
    order = showing[np.argsort(-clips["static_probability"][showing], kind="stable")]
    return [
        Finding(
            kind=SHORTCUT,
            class_index=None,
            class_name="",
            where=ONE_FRAME,
            text=f"On {100 * share:.0f} % of {len(asked)} clips (95 % interval {100 * low:.0f}-{100 * high:.0f}), one "
            f"repeated frame gives the same answer, by chance {100 * chance:.0f} %: these answers need no motion.",
            effect=(share - chance) / (1 - chance),
            effect_name="agreement of the answers to the clip and to one repeated frame, above chance (Cohen's kappa)",
            count=int(same.sum()),
            clips=clips.ids(order),
        )
    ]
