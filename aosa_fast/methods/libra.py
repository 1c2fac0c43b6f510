"""Gradients that take the scale of normalisation layers as constant (LibraGrad, arXiv 2411.16760)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model
from aosa_fast.methods.hooks import forward_hooks
from aosa_fast.models.anatomy import unwrap


@contextmanager
def constant_scales(model: Model) -> Iterator[nn.Module]:
    """Within this block and this thread, the divisors of LayerNorm and RMSNorm have no gradient; their values stay.

    A normalised token does not grow with its input, so the exact gradient says that nothing would change where the
    whole token vanished. These layers are `nn.LayerNorm`, `nn.RMSNorm`, their subclasses, and modules whose class has
    a name that ends alike; one whose output is not the known formula's is left as it is.

    Yields:
        The network to call, inside of `torch.compile`, which would not see the hooks.

    Raises:
        InputError: a model that is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"backward must be exact for a model that is no torch.nn.Module; got {type(model).__name__}")
    network = unwrap(model)
    with forward_hooks([(module, partial(_linear, module)) for module in network.modules() if _normalises(module)]):
        yield network


def _normalises(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))


def _linear(module: Any, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
    """The layer's output with the gradient of (x - mean) / constant * weight, or of x / constant * weight."""
    values = inputs[0] if inputs else None
    if not (isinstance(values, Tensor) and isinstance(output, Tensor) and output.requires_grad):
        return None
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    shape = getattr(module, "normalized_shape", None) or (weight.shape if isinstance(weight, Tensor) else (0,))
    if values.shape != output.shape or values.shape[-len(shape) :] != torch.Size(shape):
        return None
    axes = tuple(range(-len(shape), 0))
    given = [getattr(module, name, None) for name in ("eps", "variance_epsilon")]
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    eps = next((number for number in given if number is not None), torch.finfo(values.dtype).eps)
    tolerance = 1e-4 if output.dtype in (torch.float32, torch.float64) else 3e-2
    forms = (values - values.mean(axes, keepdim=True), values)  # of LayerNorm, and of RMSNorm
    # By name first: of tokens whose mean happens to be 0 both give the same.
    for form in reversed(forms) if type(module).__name__.endswith("RMSNorm") else forms:
        scaled = form * (form.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
        # Some keep the weight less 1.
        for factor in (1.0,) if weight is None else (weight, 1 + weight):
            linear = scaled * factor
            expected = linear if bias is None else linear + bias
            if torch.allclose(expected.detach().to(output.dtype), output.detach(), rtol=tolerance, atol=tolerance):
                # Adding 0 keeps the value, bit for bit.
                return output.detach() + (linear - linear.detach()).to(output.dtype)
    return None
