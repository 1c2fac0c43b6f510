"""The four methods with the calling conventions of Captum: a tensor like the input comes back."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.explanation import Explanation
from aosa_fast.inference.call import Model
from aosa_fast.options import Choices
from aosa_fast.pipeline import explain


class _Attribution:
    _method: ClassVar[str]

    def __init__(self, forward_func: Model, **options: Unpack[Choices]) -> None:
        self.forward_func = forward_func
        fields: dict[str, Any] = {**options}
        self.config = Config(method=self._method, **fields)
        self.explanation: Explanation | None = None

    def attribute(
        self,
        inputs: Tensor,  # (B, C, T, H, W)
        target: int | list[int] | Tensor,
        baselines: float | Tensor | None = None,
        **arguments: Any,
    ) -> Tensor:
        """Attributes the score of one class per clip to the voxels.

        Args:
            inputs: (B, C, T, H, W) float32.
            target: a class for all clips, or one per clip.
            baselines: what hides a voxel: a number, or a tensor that broadcasts to `inputs`; default: `fill`.
            arguments: further arguments of `aosa_fast.explain`, such as `flow`, `mean` and `std`.

        Returns:
            (B, C, T, H, W) float32 in units of the score: the map, the same for every channel. All else of the
            explanation is kept in `self.explanation`.

        Raises:
            InputError: as `aosa_fast.explain`.
        """
        classes = torch.tensor(target, device="cpu") if isinstance(target, list) else target
        if baselines is not None:
            given = baselines if isinstance(baselines, Tensor) else torch.as_tensor(baselines, device="cpu")
            arguments["fill"] = given.float()
        self.explanation = explain(self.forward_func, inputs, classes, config=self.config, **arguments)
        return self.explanation.saliency.unsqueeze(1).expand_as(inputs).contiguous()


class AOSA(_Attribution):
    """Exact adaptive occlusion sensitivity: one forward per tube (paper III-A, III-B).

    Args:
        forward_func: the model, (B, C, T, H, W) to (B, n_classes).
        options: fields of `aosa_fast.Config`.
    """

    _method = "aosa"


class AOSAApprox(_Attribution):
    """First-order adaptive occlusion sensitivity: one forward and one backward (paper III-D, Eq. 8).

    Args:
        forward_func: the model, (B, C, T, H, W) to (B, n_classes).
        options: fields of `aosa_fast.Config`.
    """

    _method = "aosa-approx"


class AOSAPath(_Attribution):
    """Occlusion sensitivity from the mean gradient on the way to the fill, for scores that saturate.

    The field sums to f(x) - f(fill) (completeness), so scores are signed and on the scale of the exact ones.

    Args:
        forward_func: the model, (B, C, T, H, W) to (B, n_classes).
        options: fields of `aosa_fast.Config`, `steps` among them.
    """

    _method = "aosa-path"


class AOSADual(_Attribution):
    """AOSA-dual: tubes that move and tubes that stand still say how much, gradients on two ways say where.

    The most faithful and the best aimed of the four where it was measured (`docs/evaluation.md`), at the cost of 9
    gradients and 7 forwards.

    Args:
        forward_func: the model, (B, C, T, H, W) to (B, n_classes).
        options: fields of `aosa_fast.Config`, `steps` and `detail` among them.
    """

    _method = "aosa-dual"
