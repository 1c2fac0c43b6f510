"""From a model's answers to whole clips, and with parts hidden, to what they say of a finding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.findings.types import CONFIRMED, CORRELATION, UNDECIDED, Confirmation
from aosa_fast.evaluation.bootstrap import interval

# Of accuracy or probability. What hides the middle of the frame or of the clip takes up to 0.09 more than what hides
# another part, of the planted network's classes without a cue.
LEAST_DROP = 0.1
FEWEST = 6  # clips: of one sign by chance are 3 % of all sets of six, and intervals of fewer are too narrow


def judge(probabilities: NDArray[np.float64], class_index: int, labelled: bool, seed: int) -> Confirmation:
    """Holds what is hidden against the whole clips, and against as much that is hidden elsewhere.

    A drop, of the accuracy or of the probability, counts where it is 0.1 at least and its 95 % bootstrap interval over
    clips lies above 0.

    Args:
        probabilities: (n, 3, n_classes): of whole clips, with the region hidden, with another one hidden.
        class_index: of the class that the finding is about.
        labelled: as of `Confirmation`.
        seed: of the bootstrap.
    """
    from scipy.stats import binomtest

    right = (probabilities.argmax(axis=2) == class_index).astype(np.float64)  # (n, 3)
    chance = probabilities[:, :, class_index]
    low, high = binomtest(int(right[:, 1].sum()), len(right)).proportion_ci(method="wilson")
    hidden = interval(chance[:, 1], seed=seed)
    return Confirmation(
        verdict=_verdict((right, chance), seed),
        labelled=labelled,
        clips=len(right),
        accuracy=float(right[:, 0].mean()),
        accuracy_hidden=float(right[:, 1].mean()),
        accuracy_low=float(low),
        accuracy_high=float(high),
        accuracy_elsewhere=float(right[:, 2].mean()),
        probability=float(chance[:, 0].mean()),
        probability_hidden=hidden.mean,
        probability_low=hidden.low,
        probability_high=hidden.high,
        probability_elsewhere=float(chance[:, 2].mean()),
    )


def _verdict(measures: tuple[NDArray[np.float64], ...], seed: int) -> str:
    suffers = [_drops(values[:, 0] - values[:, 1], seed) for values in measures]
    beyond = [_drops(values[:, 2] - values[:, 1], seed) for values in measures]
    # Both of the same measure: what falls must fall by more than it does elsewhere.
    if any(one and other for one, other in zip(suffers, beyond, strict=True)):
        return CONFIRMED
    return UNDECIDED if any(suffers) else CORRELATION


def _drops(differences: NDArray[np.float64], seed: int) -> bool:
    found = interval(differences, seed=seed)
    return found.mean >= LEAST_DROP and found.low > 0
