"""A model as CUDA graphs: its kernels, forward and backward, are launched at once, not one by one."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.errors import ModelWarning, describe_error


class Graphed(nn.Module):
    """Calls a model through CUDA graphs, one for each shape of batch, with and without a gradient by the input.

    What cannot be captured is called as it is, which is said once. Graphs have buffers of their own: calls take turns,
    see `turn`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._made: dict[Any, Callable[[Tensor], Any]] = {}
        self._told = False
        self.turn = threading.RLock()

    def forward(self, batch: Tensor) -> Any:
        """The model's logits for a batch (B, C, T, H, W) on the GPU."""
        key = (batch.shape, batch.dtype, batch.is_contiguous(), batch.requires_grad and torch.is_grad_enabled())
        if key not in self._made:
            self._made[key] = self._capture(batch, key[-1])
        graph = self._made[key]
        # Buffers of a graph are overwritten by its next call: copies go in, so that gradients come out as copies.
        return graph(batch) if graph is self._model else graph(batch * 1).clone()

    def _capture(self, batch: Tensor, gradient: bool) -> Callable[[Tensor], Any]:
        sample = torch.zeros_like(batch, requires_grad=gradient)

        def logits(video: Tensor) -> Tensor:
            output = self._model(video)
            return output if isinstance(output, Tensor) else output.logits

        try:
            with torch.enable_grad() if gradient else torch.no_grad():
                graph = torch.cuda.make_graphed_callables(logits, (sample,))
        except Exception as error:  # noqa: BLE001 - a model is anybody's code, and any of it may not be captured
            if not self._told:
                warnings.warn(
                    f"the model cannot be captured as a CUDA graph, and is called as it is: {describe_error(error)}",
                    ModelWarning,
                    stacklevel=2,
                )
                self._told = True
            return self._model
        return graph
