"""What a method is: one record each, free of torch, from which loading, defaults, options, units and help are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aosa_fast.methods.option import Option
from aosa_fast.registry import Registry


@dataclass(frozen=True)
class Method:
    """A way to make maps.

    Attributes:
        name: as in `Config.method`.
        help: one sentence for listings.
        run: "PACKAGE.MODULE:FUNCTION". Of methods without occluders, a function of (model, video, config, resolve) that
            returns the logits, the targets and a map (B, T, H, W) float32 per target, see `methods.comparators`; of
            the others, one of a `Job` and a future of the `Tubes` that returns a `Result` per target.
        unit: of the map's values, {noun} being that of the score; or a function of the config that gives it.
        occluders: "tubes" that follow the motion, the import string of what makes other ones of (video, config), or
            nothing: voxel by voxel.
        fill: the fill where the user does not choose one.
        score: likewise the score.
        steps: likewise the steps; 0 for methods without any.
        partners: likewise the partners.
        many_passes: whether it calls the model many times for each clip, in batches of its own.
        whole_batch: whether a clip's map depends on the other clips that are explained with it.
        segments: whether the user's own may take the place of its tubes.
        has_check: whether its scores can be held against exact ones (`Config.check`).
        has_compat: whether the authors' code has it (`Config.compat`).
        saturates: whether its scores vanish where a probability is near 1.
        takes_gradient: whether the model goes backward, too.
        looks_inside: whether it looks at the model's layers, which copies of it may not have.
        knows_model: False for maps that only show what a metric gives to chance.
        options: its own, as further arguments of `Config`.
    """

    name: str
    help: str
    run: str
    unit: str | Callable[[Any], str] = "drop of the {noun}"
    occluders: str = ""
    fill: str = "mean"
    score: str = "prob"
    steps: int = 0
    partners: int = 3
    many_passes: bool = False
    whole_batch: bool = False
    segments: bool = False
    has_check: bool = False
    has_compat: bool = False
    saturates: bool = False
    takes_gradient: bool = True
    looks_inside: bool = False
    knows_model: bool = True
    options: tuple[Option, ...] = ()

    @property
    def has_tubes(self) -> bool:
        """Whether it follows the motion; all others need no optical flow."""
        return self.occluders == "tubes"


def _step_unit(config: Any) -> str:
    several = ", summed over areas, over its largest value" if len(config.areas) > 1 else ""
    return f"share of the voxel that is kept{several}"


def find_method(name: str) -> Method:
    """The record of a method: by its name, of a user's function, "python:PACKAGE.MODULE:FUNCTION", or "captum:NAME".

    Raises:
        InputError: there is none.
    """
    kind, _, rest = str(name).partition(":")
    return replace(PATTERNS[kind], name=name) if rest and kind in PATTERNS else METHODS.find(name)


def list_methods() -> list[str]:
    """The names of all methods, ours and those of other packages."""
    return list(METHODS)


def _captum_unit(config: Any) -> str:
    name = config.method.partition(":")[2]
    known = {
        "Saliency": "|slope| of the {noun}, summed over channels",
        "InputXGradient": "input x slope of the {noun}",
        "IntegratedGradients": "share of the {noun}'s change from the mean colour",
        "Occlusion": "drop of the {noun}, summed over channels",
    }
    return known.get(name, f"as captum's {name} has it of the {{noun}}, summed over channels")


_HERE = "aosa_fast.methods"
METHODS = Registry(
    "method",
    (
        Method(
            "aosa-approx",
            "AOSA from one gradient, to first order; the map costs about as much as the gradient does.",
            f"{_HERE}.aosa:approx",
            occluders="tubes",
            segments=True,
            fill="conditional",
            has_check=True,
            has_compat=True,
            saturates=True,
            options=(
                Option(
                    "relu",
                    "element",
                    "For aosa-approx, the ReLU of Eq. 8: on each input element, after the channel sum, none, or as "
                    "printed.",
                    str,
                    ("element", "channel", "none", "eq8-literal"),
                ),
            ),
        ),
        Method(
            "aosa",
            "AOSA as the paper defines it: one forward of the model per tube, exact.",
            f"{_HERE}.aosa:exact",
            takes_gradient=False,
            occluders="tubes",
            segments=True,
            many_passes=True,
            has_compat=True,
            options=(
                Option(
                    "samples",
                    0,
                    "For aosa with --fill conditional: random fills per tube; 0: the mean itself.",
                    least=0,
                ),
                Option(
                    "budget_ms",
                    None,
                    "For aosa: stop after so many milliseconds, with exact scores for the tubes that tell "
                    "most, and estimates with a standard error for all others.",
                    float,
                    least=0,
                    open=True,
                ),
            ),
        ),
        Method(
            "aosa-path",
            "AOSA from the mean gradient on the way to the fill, for scores that saturate.",
            f"{_HERE}.aosa:path",
            occluders="tubes",
            segments=True,
            steps=8,
            many_passes=True,
            has_check=True,
        ),
        Method(
            "aosa-dual",
            "Tubes that move and tubes that stand still say how much, gradients on two ways say where; 9 gradients and "
            "7 forwards.",
            f"{_HERE}.dual:dual",
            occluders="tubes",
            steps=9,
            partners=0,
            many_passes=True,
            options=(
                Option(
                    "detail",
                    "auto",
                    "For aosa-dual: the field alone (voxel), with its tubes (both), mostly the tubes (tube), or what "
                    "the model answers to best, clip by clip (auto).",
                    str,
                    ("auto", "voxel", "both", "tube"),
                ),
            ),
        ),
        Method(
            "grad-cam",
            "Grad-CAM: the last layer's activations, weighted by the score's gradient.",
            f"{_HERE}.grad_cam:grad_cam",
            "activation x slope of the {noun}, positive part",
            looks_inside=True,
            score="logit",
            options=(
                Option(
                    "layer",
                    None,
                    "For grad-cam: the layer's name in the model. Default: the last stage of the families known, or of "
                    "convolutions.",
                    str,
                    open=True,
                ),
                Option(
                    "cam_weights",
                    "frame",
                    "For grad-cam: one weight per channel and frame, or per channel (global).",
                    str,
                    ("frame", "global"),
                ),
            ),
        ),
        Method(
            "osa",
            "Occlusion sensitivity with cuboids that stand still: one forward of the model per cuboid.",
            f"{_HERE}.aosa:exact",
            takes_gradient=False,
            occluders=f"{_HERE}.osa:cuboids",
            many_passes=True,
            options=(
                Option(
                    "cuboid_area",
                    0.02,
                    "For osa: the cuboid's side, as share of the frame's area; --stride is its step.",
                    float,
                    least=0,
                    share="must be above 0 and at most 1",
                ),
                Option("cuboid_frames", 0, "For osa: the cuboid's length in frames; 0: half of the clip.", least=0),
                Option("cuboid_step", 2, "For osa: the cuboid's step in time, frames.", least=1),
            ),
        ),
        Method(
            "smoothgrad",
            "The mean gradient at noisy copies of the clip.",
            f"{_HERE}.gradients:smoothgrad",
            "|mean slope| of the {noun} under noise, summed over channels",
            many_passes=True,
            options=(
                Option("noise_samples", 25, "For smoothgrad: how many noisy copies.", least=1),
                Option(
                    "noise",
                    0.15,
                    "For smoothgrad: standard deviation of the noise, in ranges of the clip.",
                    float,
                    least=0,
                ),
            ),
        ),
        Method(
            "step",
            "STEP: the part of the clip that keeps the class best, all else being blurred; thousands of passes.",
            f"{_HERE}.step:step",
            _step_unit,
            steps=2000,
            many_passes=True,
            options=(
                Option(
                    "areas",
                    (0.1,),
                    "For step: the share of the clip that is kept; several are summed.",
                    float,
                    least=0,
                    share="must be shares between 0 and 1",
                    several=True,
                ),
            ),
        ),
        Method(
            "attention-rollout",
            "What reaches the class token through the attention of all layers; for transformers.",
            f"{_HERE}.attention_rollout:attention_rollout",
            "attention that reaches the class token",
            takes_gradient=False,
            looks_inside=True,
        ),
        Method(
            "legrad",
            "LeGrad: what more attention to each token would add to the score, over all layers; for transformers.",
            f"{_HERE}.legrad:legrad",
            "slope of the {noun} by attention to the token, positive part",
            looks_inside=True,
            score="logit",
        ),
        Method(
            "gradient",
            "The size of the score's gradient.",
            f"{_HERE}.gradients:gradient",
            "|slope| of the {noun}, summed over channels",
        ),
        Method(
            "input-x-gradient",
            "The input times the score's gradient.",
            f"{_HERE}.gradients:input_x_gradient",
            "input x slope of the {noun}",
        ),
        Method(
            "integrated-gradients",
            "The input times the mean gradient on the way from the mean colour to it.",
            f"{_HERE}.gradients:integrated_gradients",
            "share of the {noun}'s change from the mean colour",
            steps=50,
            many_passes=True,
        ),
        Method(
            "expected-gradients",
            "Integrated gradients from the other clips of the batch, at random points; needs two clips or more.",
            f"{_HERE}.gradients:expected_gradients",
            "share of the {noun}'s change from the other clips",
            steps=50,
            many_passes=True,
            whole_batch=True,
        ),
        Method(
            "random",
            "Random numbers: what a metric gives to a map that knows nothing of the model.",
            f"{_HERE}.baselines:random_map",
            "random numbers: nothing of the model",
            knows_model=False,
        ),
        Method(
            "centre",
            "A blob in the middle: what a metric gives to a map that knows nothing of the model.",
            f"{_HERE}.baselines:centre_blob",
            "a blob in the middle: nothing of the model",
            knows_model=False,
        ),
        Method(
            "motion",
            "What moves: how far each voxel is from its median over time; knows nothing of the model.",
            f"{_HERE}.baselines:motion",
            "|distance| from the median over time, summed over channels: nothing of the model",
            knows_model=False,
        ),
        Method(
            "motion-tubes",
            "What moves, summed over the tubes of AOSA-approx in place of its field; knows nothing of the model.",
            f"{_HERE}.baselines:motion_tubes",
            "|distance| from the median over time, summed over tubes: nothing of the model",
            occluders="tubes",
            segments=True,
            knows_model=False,
        ),
    ),
    "aosa_fast.methods",
)

# Methods of many names, by what these begin with: those of captum, and users' functions.
PATTERNS = {
    "captum": Method(
        "captum:NAME",
        "A class of captum.attr that needs nothing but the model, such as captum:DeepLift.",
        f"{_HERE}.foreign:captum_map",
        _captum_unit,
        many_passes=True,
        looks_inside=True,
    ),
    "python": Method(
        "python:PACKAGE.MODULE:FUNCTION",
        "A function of (model, clips, class indices) that returns a map (B, T, H, W).",
        f"{_HERE}.foreign:python_map",
        "as the function has it",
        many_passes=True,
        looks_inside=True,
    ),
}
