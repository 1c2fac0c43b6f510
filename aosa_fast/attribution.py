"""The four methods as attributions of Captum's, with or without Captum: tensors like the inputs come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, Unpack, overload

import torch
from torch import Tensor, nn

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.explanation import Explanation
from aosa_fast.inference.call import evaluating
from aosa_fast.libraries import check_libraries
from aosa_fast.options import Choices
from aosa_fast.pipeline import explain
from aosa_fast.targets import PerClip, Target, target_of_clips

if TYPE_CHECKING:
    Attribution = object
else:
    try:
        check_libraries("captum.attr", extra="captum")
        from captum.attr import Attribution
    except InputError:  # it is an extra
        Attribution = object

Clips = Tensor | tuple[Tensor, ...]
Class = Target | tuple[int, ...] | list[int] | list[tuple[int, ...]] | None
Baseline = float | Tensor | None
P = ParamSpec("P")
R = TypeVar("R")

# Axes of those arguments of `explain` that have a row per clip.
_AXES = {"flow": 5, "frames": 5, "segments": 4, "fill": 5}


def _wrapped(function: Callable[P, R]) -> Callable[P, R]:
    """Captum's `NoiseTunnel` calls what its own methods have inside of the function that counts their use."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return call


class _Attribution(Attribution):
    """What the four classes share.

    Attributes:
        forward_func: the model.
        config: every choice.
        explanations: of the last call, all that was found, in the order of the inputs. Clips that were explained one by
            one (see `attribute`) have one each.
    """

    _method: ClassVar[str]

    def __init__(self, forward_func: Callable[..., Any], **options: Unpack[Choices]) -> None:
        self.forward_func = forward_func
        fields: dict[str, Any] = {**options}
        self.config = Config(method=self._method, **fields)
        self.explanations: list[Explanation] = []

    @overload
    def attribute(
        self,
        inputs: Tensor,
        target: Class = ...,
        baselines: Baseline | tuple[Baseline, ...] = ...,
        additional_forward_args: Any = ...,
        **arguments: Any,
    ) -> Tensor: ...
    @overload
    def attribute(
        self,
        inputs: tuple[Tensor, ...],
        target: Class = ...,
        baselines: Baseline | tuple[Baseline, ...] = ...,
        additional_forward_args: Any = ...,
        **arguments: Any,
    ) -> tuple[Tensor, ...]: ...
    @_wrapped
    def attribute(
        self,
        inputs: Clips,
        target: Class = None,
        baselines: Baseline | tuple[Baseline, ...] = None,
        additional_forward_args: Any = None,
        **arguments: Any,
    ) -> Clips:
        """Attributes the score of one class per clip to the voxels.

        A network is put in evaluation mode meanwhile; what a function calls is not. The block around may be one of
        `torch.no_grad`. Where there are several inputs, or additional arguments with a row per clip, the clips of a
        batch are explained one by one, each with its own rows beside all of its occluded copies.

        Args:
            inputs: (B, C, T, H, W) float32, float64, float16 or bfloat16. The model computes in the dtype of its
                weights, a function in that of `inputs`; clips, scores and maps are float32 in between. Or a tuple of
                these, whose T, H and W may differ: each is explained with all others held as they are, by tubes along
                its own motion. To hide a tube in several at once, give one clip with all their channels, and as
                forward_func a function that splits it.
            target: a class for all clips, or one per clip; tuples of one are taken as their only index. None for models
                of one score, (B,) or (B, 1), or () for one clip, which is explained as it is (score="logit") unless
                `score` was given. Also a name, "pred" or a `Difference`, as `aosa_fast.explain` takes them.
            baselines: what hides a voxel: a number, or a tensor that broadcasts to `inputs`; default: `fill`. In a
                tuple, one for each of the inputs.
            additional_forward_args: what forward_func is given after the inputs: a value, or a tuple of values. Tensors
                of B rows have one per clip, which is repeated beside its occluded copies; all else is passed as it is.
            arguments: further arguments of `aosa_fast.explain`, such as `flow`, `mean` and `std`, for all inputs. Those
                with a row per clip may have fewer, of which each serves as many clips in turn: Captum's `NoiseTunnel`
                repeats the clips, but not these.

        Returns:
            Like `inputs`, in units of the score: the map, the same for every channel. With score="logit" the score is
            what forward_func returns, as for Captum's own methods and metrics. All else that was found is kept in
            `explanations`.

        Raises:
            InputError: as `aosa_fast.explain`, or the inputs are not clips of one batch.
        """
        clips = inputs if isinstance(inputs, tuple) else (inputs,)
        _check(clips)
        fills = baselines if isinstance(baselines, tuple) else (baselines,) * len(clips)
        if len(fills) != len(clips):
            raise InputError(f"baselines must be one for each of the {len(clips)} inputs; got {len(fills)}")
        more = additional_forward_args
        others = more if isinstance(more, tuple) else () if more is None else (more,)
        found, explanations = [], []
        for place, fill in enumerate(fills):
            given = dict(arguments)
            if fill is not None:
                given["fill"] = (fill if isinstance(fill, Tensor) else torch.as_tensor(fill, device="cpu")).float()
            own = self._explained(clips, place, target, others, given)
            saliency = torch.cat([explanation.saliency for explanation in own]).unsqueeze(1)
            found.append(saliency.to(clips[place].dtype).expand_as(clips[place]).contiguous())
            explanations += own
        self.explanations = explanations
        return tuple(found) if isinstance(inputs, tuple) else found[0]

    def _explained(
        self, clips: tuple[Tensor, ...], place: int, target: Class, others: tuple[Any, ...], arguments: dict[str, Any]
    ) -> list[Explanation]:
        """Of one of the inputs: one explanation, or one for each clip where something has a row for each."""
        video, classes, config = clips[place], _classes(target), self.config
        if target is None and config.score is None:
            config = replace(config, score="logit")
        forward = _Forward(self.forward_func, clips, place, others)
        simple = target is not None and len(clips) == 1 and not others and forward.dtype in (None, torch.float32)
        B = len(video)
        explanations = []
        # The model by its own name: other threads may explain it, inside of something else.
        with evaluating(self.forward_func):
            for part in [slice(b, b + 1) for b in range(B)] if forward.has_rows else [slice(0, B)]:
                forward.part = part
                network = self.forward_func if simple else forward
                own = {name: _rows_of(name, value, part, B) for name, value in arguments.items()}
                wanted = target_of_clips(classes, part.start, part.stop, B)
                explanations.append(explain(network, video[part].float(), wanted, config=config, **own))
        return explanations

    @property
    def explanation(self) -> Explanation | None:
        """The first of `explanations`; the only one of a tensor without rows beside it. None before the first call."""
        return self.explanations[0] if self.explanations else None

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are in units of the score, not of the score by input: True, as of Captum's Occlusion."""
        return True

    def has_convergence_delta(self) -> bool:
        """Whether there is a sum that attributions must have: False, as tubes overlap."""
        return False

    @classmethod
    def get_name(cls) -> str:
        """The name of the class."""
        return cls.__name__


class AOSA(_Attribution):
    """Exact adaptive occlusion sensitivity: one forward per tube (paper III-A, III-B).

    Args:
        forward_func: the model, a network or a function: (B, C, T, H, W), and what else `attribute` is given, to
            (B, n_classes).
        options: fields of `aosa_fast.Config`.
    """

    _method = "aosa"


class AOSAApprox(_Attribution):
    """First-order adaptive occlusion sensitivity: one forward and one backward (paper III-D, Eq. 8).

    Args:
        forward_func: the model, a network or a function: (B, C, T, H, W), and what else `attribute` is given, to
            (B, n_classes).
        options: fields of `aosa_fast.Config`.
    """

    _method = "aosa-approx"


class AOSAPath(_Attribution):
    """Occlusion sensitivity from the mean gradient on the way to the fill, for scores that saturate.

    The field sums to f(x) - f(fill) (completeness), so scores are signed and on the scale of the exact ones.

    Args:
        forward_func: the model, a network or a function: (B, C, T, H, W), and what else `attribute` is given, to
            (B, n_classes).
        options: fields of `aosa_fast.Config`, `steps` among them.
    """

    _method = "aosa-path"


class AOSADual(_Attribution):
    """AOSA-dual: tubes that move and tubes that stand still say how much, gradients on two ways say where.

    The most faithful and the best aimed of the four where it was measured (`docs/evaluation.md`), at the cost of 9
    gradients and 7 forwards.

    Args:
        forward_func: the model, a network or a function: (B, C, T, H, W), and what else `attribute` is given, to
            (B, n_classes).
        options: fields of `aosa_fast.Config`, `steps` and `detail` among them.
    """

    _method = "aosa-dual"


class _Forward(nn.Module):
    """A function of several inputs as a network of one of them, of a clip and its occluded copies."""

    def __init__(
        self, function: Callable[..., Any], clips: tuple[Tensor, ...], place: int, others: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.function = function
        self.dtype = None if isinstance(function, nn.Module) else clips[place].dtype
        self.clips = len(clips[place])
        self.before, self.after = clips[:place], (*clips[place + 1 :], *others)
        self.has_rows = any(map(self._has_rows, (*self.before, *self.after)))
        self.part = slice(0, 1)  # the clip of the batch, where there are rows

    def forward(self, batch: Tensor) -> Any:
        """What the function returns for (n, C, T, H, W); of one score per clip, with an axis of classes."""
        count = len(batch)  # before the function may squeeze it in place
        own = batch if self.dtype is None else batch.to(self.dtype)
        before, after = ([self._rows(value, batch) for value in part] for part in (self.before, self.after))
        output = self.function(*before, own, *after)
        single = isinstance(output, Tensor) and output.ndim < 2 and output.numel() == count
        return output.reshape(count, 1) if single else output

    def _has_rows(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.ndim > 0 and len(value) == self.clips

    def _rows(self, value: Any, batch: Tensor) -> Any:
        if not self._has_rows(value):
            return value
        return value[self.part].to(batch.device).repeat_interleave(len(batch), 0)  # a copy


def _rows_of(name: str, value: Any, part: slice, clips: int) -> Any:
    """An argument of `explain` for a part of the clips, of which each row may serve several; all of it without rows."""
    rows = len(value) if getattr(value, "ndim", 0) == _AXES.get(name) else 0
    return value if not rows or clips % rows else value[[b * rows // clips for b in range(part.start, part.stop)]]


def _check(clips: tuple[Tensor, ...]) -> None:
    """Raises InputError where these are not clips of one batch."""
    rule = "inputs must be (B, C, T, H, W) of real numbers, or a tuple of such clips, of one B"
    for clip in clips:
        if not isinstance(clip, Tensor) or clip.ndim != 5 or not clip.is_floating_point() or len(clip) != len(clips[0]):
            got = f"{clip.dtype} {tuple(clip.shape)}" if isinstance(clip, Tensor) else type(clip).__name__
            raise InputError(f"{rule}; got {got}: what is not a clip goes into additional_forward_args")
    if not clips:
        raise InputError(f"{rule}; got none")


def _classes(target: Any) -> Any:
    """Captum's ways to name the classes of clips as those of `explain`."""
    if isinstance(target, list):
        return PerClip(tuple(map(_classes, target)))
    if isinstance(target, tuple) and len(target) == 1:
        return target[0]
    return target.reshape(()) if isinstance(target, Tensor) and target.numel() == 1 else target
