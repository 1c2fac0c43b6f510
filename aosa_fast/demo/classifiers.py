"""The embedded networks as classifiers, for `--model demo...`."""

from __future__ import annotations

from aosa_fast.demo import attention, network, planted
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.models.classifier import Classifier


def load_demo(spec: str, rest: str) -> Classifier:
    """The embedded convolutional network."""
    return Classifier(network.load_demo_network(), network.PREPROCESSING, CLASS_NAMES)


def load_attention(spec: str, rest: str) -> Classifier:
    """The embedded network with attention."""
    return Classifier(attention.load_demo_attention(), attention.PREPROCESSING, CLASS_NAMES)


def load_planted(spec: str, rest: str) -> Classifier:
    """A network that learned the shortcuts of a plan, or "none".

    Raises:
        InputError: none is shipped for this seed.
    """
    if rest not in ("none", *map(str, planted.SEEDS)):
        raise InputError(f"model={spec} must be demo-planted:none or one of :{', :'.join(map(str, planted.SEEDS))}")
    loaded = planted.load_planted(0, shortcuts=False) if rest == "none" else planted.load_planted(int(rest))
    return Classifier(loaded, planted.PREPROCESSING, CLASS_NAMES)
