"""What the numbers of a map mean, for colour bars and reports."""

from __future__ import annotations

from aosa_fast.config import Config

_NOUNS = {"prob": "probability", "logprob": "log-probability", "sigmoid": "probability"}  # others have their own name
_UNITS = {
    "gradient": "|slope| of the {noun}, summed over channels",
    "smoothgrad": "|mean slope| of the {noun} under noise, summed over channels",
    "input-x-gradient": "input x slope of the {noun}",
    "integrated-gradients": "share of the {noun}'s change from the mean colour",
    "grad-cam": "activation x slope of the {noun}, positive part",
    "step": "share of the voxel that is kept",
    "attention-rollout": "attention that reaches the class token",
    "random": "random numbers: nothing of the model",
    "centre": "a blob in the middle: nothing of the model",
}


def units(config: Config) -> str:
    """The unit of the maps of a method, in a few words: the drop of the score for all that occlude."""
    text = _UNITS.get(config.method, "drop of the {noun}")
    if config.method == "step" and len(config.areas) > 1:
        text = "share of the voxel that is kept, summed over areas, over its largest value"
    elif config.aggregate == "eq2" and config.method not in _UNITS:
        text = "{noun} where tubes are hidden elsewhere"
    return text.format(noun=_NOUNS.get(config.score_name, config.score_name))
