"""3-D convolutions on a CPU through oneDNN, whatever the batch, with input gradients that are convolutions, too.

ATen sends a convolution of a single small clip to a loop over columns of voxels (49 of R3D-50's 53), and makes the
input gradient of a network's first layer, which has three channels, with three of a vector's sixteen lanes in use. Both
go through oneDNN's forward convolution here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FORMAT = torch.channels_last_3d
# Up to so many input channels the gradient of a strided convolution is made for all phases of the stride at once.
FEW_CHANNELS = 4
_ONE = (1, 1, 1)
Convolve = Callable[[Tensor, Tensor | None], Tensor]


class OneDNNConvolutions(TorchFunctionMode):
    """Within this block and this thread, `torch.conv3d` of float32 tensors on a CPU goes through oneDNN, channels last.

    The model is not touched, and gradients by its weights are not made. What else calls `conv3d` (another dtype,
    autocast, groups, dilation, a function transform) is computed as ever.
    """

    def __init__(self, kept: Any = None) -> None:
        """With `kept`, an empty `WeakIdKeyDictionary`, parameters are kept there as oneDNN wants them.

        That takes two more copies of the weights of 3-D convolutions, one for each direction; without, they are
        converted at each call. A parameter that is written to, or replaced, is converted anew, as far as torch knows of
        it: it does not of writing to `parameter.data`.
        """
        super().__init__()
        self._kept = kept

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv3d and not kwargs and (call := _read(*args)) is not None:
            return _Convolution.apply(*args[:2], args[2] if len(args) > 2 else None, call, self._kept)
        if func is torch.Tensor.view and not kwargs and not isinstance(args[1], torch.dtype):
            func = torch.Tensor.reshape  # what can be viewed in the model's own layout may not be in ours
        return func(*args, **(kwargs or {}))


class _Call(NamedTuple):
    """Padding and stride of a convolution, (T, H, W)."""

    padding: tuple[int, ...]
    stride: tuple[int, ...]


def _read(
    video: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> _Call | None:
    """The arguments of a convolution that is computed here; None of one that is not."""
    plain = (
        type(video) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and all(values.dtype == torch.float32 and values.device.type == "cpu" for values in (video, weight))
        and video.ndim == 5
        and groups == 1
        and _triple(dilation) == (1, 1, 1)
        and not isinstance(padding, str)
        and video.numel() > 0
    )
    if not plain or torch.is_autocast_enabled("cpu") or torch._C._are_functorch_transforms_active():
        return None
    return _Call(_triple(padding), _triple(stride))


def _triple(value: Any) -> tuple[int, ...]:
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * 3 if len(numbers) == 1 else numbers


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, video: Tensor, weight: Tensor, bias: Tensor | None, call: _Call, kept: Any) -> Tensor:
        ctx.weight, ctx.call, ctx.kept, ctx.shape = weight, call, kept, video.shape
        return _packed(kept, weight, (call, video.shape[1:]), lambda: _pack(weight, call, video.shape))(video, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        found = None
        if ctx.needs_input_grad[0]:
            weight, call, shape = ctx.weight, ctx.call, ctx.shape
            if call.stride == _ONE or weight.shape[1] <= FEW_CHANNELS:
                found = _input_gradient(weight, call, shape, grad, ctx.kept)
            else:
                video = grad.new_empty(shape)  # nothing but its shape is read
                arguments = (None, call.stride, call.padding, _ONE, False, (0, 0, 0), 1, (True, False, False))
                found = torch.ops.aten.convolution_backward(grad, video, weight, *arguments)[0]
        return found, None, None, None, None


def _input_gradient(weight: Tensor, call: _Call, shape: torch.Size, grad: Tensor, kept: Any) -> Tensor:
    """The gradient by an input of `shape`: voxel s q + r of an axis with stride s gets what a kernel for r says of q.

    Hence one convolution of stride 1 gives the gradients of all phases r, as channels of their own.
    """
    axes = [_Axis(*sizes) for sizes in zip(weight.shape[2:], *call, shape[2:], grad.shape[2:], strict=True)]
    padding = tuple(axis.before for axis in axes)
    if any(axis.before != axis.after or axis.before < 0 for axis in axes):
        padding = (0, 0, 0)
        grad = functional.pad(grad, [margin for axis in reversed(axes) for margin in (axis.before, axis.after)])
    key = (call, shape[1:], "backward")
    convolve = _packed(kept, weight, key, lambda: _pack(_phases(weight, axes), _Call(padding, _ONE), grad.shape))
    found = convolve(grad, None)
    if call.stride == _ONE:
        return found
    split = found.reshape(len(found), shape[1], *call.stride, *(axis.count for axis in axes))
    sizes = (axis.count * axis.stride for axis in axes)
    whole = split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(len(found), shape[1], *sizes)
    return whole[:, :, : shape[2], : shape[3], : shape[4]]


class _Axis:
    """One axis of an input gradient: which phase and which place of the gradient's kernel each tap goes to."""

    def __init__(self, taps: int, padding: int, stride: int, size: int, grad_size: int) -> None:
        self.stride = stride
        self.count = -(-size // stride)  # voxels of a phase
        self.phases = [(tap - padding) % stride for tap in range(taps)]
        shifts = [(phase + padding - tap) // stride for tap, phase in enumerate(self.phases)]
        self.before = -min(shifts)
        self.places = [shift + self.before for shift in shifts]
        self.length = max(self.places) + 1
        self.after = self.count - 1 + max(shifts) - (grad_size - 1)


def _phases(weight: Tensor, axes: list[_Axis]) -> Tensor:
    """Weights (C_out, C_in, kT, kH, kW) as the kernel (C_in * phases, C_out, ...) of the input gradient."""
    if all(axis.stride == 1 for axis in axes):
        return weight.flip(2, 3, 4).transpose(0, 1)
    outputs, inputs = weight.shape[:2]
    kernel = weight.new_zeros(inputs, *(axis.stride for axis in axes), outputs, *(axis.length for axis in axes))
    phases = torch.meshgrid(*(torch.tensor(axis.phases, device="cpu") for axis in axes), indexing="ij")
    places = torch.meshgrid(*(torch.tensor(axis.places, device="cpu") for axis in axes), indexing="ij")
    index: Any = (slice(None), *phases, slice(None), *places)
    kernel[index] = weight.permute(2, 3, 4, 1, 0)
    return kernel.flatten(0, 3)


def _pack(weight: Tensor, call: _Call, shape: torch.Size) -> Convolve:
    """A convolution with these weights, in oneDNN's own order, which suits inputs of `shape` best."""
    reorder: Any = torch._C._nn.mkldnn_reorder_conv3d_weight
    packed = reorder(weight.contiguous().to_mkldnn(), *call, _ONE, 1, shape)
    run = torch.ops.mkldnn._convolution_pointwise.default
    return lambda video, bias: run(video.contiguous(memory_format=FORMAT), packed, bias, *call, _ONE, 1, "none", [], "")


def _packed(kept: Any, weight: Tensor, key: tuple[Any, ...], make: Callable[[], Convolve]) -> Convolve:
    """What `make` gives, or gave for the same key, as long as the parameter lives and is not written to."""
    if kept is None or not isinstance(weight, nn.Parameter) or weight.is_inference():  # then it may change unseen
        return make()
    state = (weight._version, weight.data_ptr())
    before, found = kept.get(weight, (None, {}))
    if before != state:
        found = {}
        kept[weight] = state, found
    if key not in found:
        found[key] = make()
    return found[key]
