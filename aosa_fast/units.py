"""What the numbers of a map mean, for colour bars and reports."""

from __future__ import annotations

from aosa_fast.config import Config

_NOUNS = {"prob": "probability", "logit": "logit", "logprob": "log-probability", "margin": "margin"}
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
    return _UNITS.get(config.method, "drop of the {noun}").format(noun=_NOUNS[config.score_name])
