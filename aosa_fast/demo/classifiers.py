"""The embedded networks as classifiers, for `--model demo...`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from aosa_fast.demo import attention, network, planted
from aosa_fast.demo.kinds import KINDS
from aosa_fast.demo.r2plus1d import R2Plus1D
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.models.classifier import Classifier
from aosa_fast.models.registry import MOTIONS

_log = logging.getLogger(__name__)
_HERE = Path(__file__).parent
R2PLUS1D_WEIGHTS = _HERE / "r2plus1d.pt"
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "small": partial(network.DemoNet, planted.WIDTHS),
    "r2plus1d": R2Plus1D,
}
# The network that knows each kind of scenes in which what moves is not the answer.
SCENE_NETWORKS = {"colour": "small", "order": "r2plus1d", "still": "small"}


def scene_weights(kind: str) -> Path:
    """The file of the network that knows a kind of scenes."""
    return _HERE / f"scene-{kind}.pt"


def load_demo(spec: str, rest: str) -> Classifier:
    """The embedded convolutional network."""
    _log.info("model=%s: it knows %s; your own: aosa_fast.models.load", spec, MOTIONS)
    return Classifier(network.load_demo_network(), network.PREPROCESSING, CLASS_NAMES)


def load_attention(spec: str, rest: str) -> Classifier:
    """The embedded network with attention."""
    return Classifier(attention.load_demo_attention(), attention.PREPROCESSING, CLASS_NAMES)


def load_planted(spec: str, rest: str) -> Classifier:
    """A network that learned the shortcuts of a plan, or "none"; or "attention", one with attention.

    Raises:
        InputError: none is shipped for this seed.
    """
    if rest == "attention":
        return Classifier(planted.load_planted_attention(), planted.PREPROCESSING, CLASS_NAMES)
    if rest not in ("none", *map(str, planted.SEEDS)):
        seeds = ", :".join(map(str, planted.SEEDS))
        raise InputError(f"model={spec} must be demo-planted:none, demo-planted:attention or one of :{seeds}")
    loaded = planted.load_planted(0, shortcuts=False) if rest == "none" else planted.load_planted(int(rest))
    return Classifier(loaded, planted.PREPROCESSING, CLASS_NAMES)


def load_r2plus1d(spec: str, rest: str) -> Classifier:
    """The embedded R(2+1)D."""
    return Classifier(network.load_weights(R2Plus1D(), R2PLUS1D_WEIGHTS), network.PREPROCESSING, CLASS_NAMES)


def load_scene(spec: str, rest: str) -> Classifier:
    """The network that knows a kind of scenes.

    Raises:
        InputError: none is shipped for this kind.
    """
    if rest not in SCENE_NETWORKS:
        raise InputError(f"model={spec} must be demo-scene:KIND, KIND one of {', '.join(SCENE_NETWORKS)}")
    loaded = network.load_weights(BUILDERS[SCENE_NETWORKS[rest]](), scene_weights(rest))
    return Classifier(loaded, network.PREPROCESSING, KINDS[rest].classes)
