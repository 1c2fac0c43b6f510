"""Ways to run a model that give the same answers but for rounding, and differ in speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model, model_errors, routed
from aosa_fast.inference.convolution import OneDNNConvolutions
from aosa_fast.inference.graphs import Graphed

_OTHERWISE = "use route=as-is (--route as-is)"


class Route:
    """A model on one of its ways.

    Attributes:
        name: as in `Config.route`, but never "auto".
        network: what is to be called inside of `with route():`, the model itself or what was made of it.
    """

    def __init__(self, model: Model, name: str, *, keep: bool = False) -> None:
        """Makes the way ready; the model is not touched.

        Args:
            model: see `call_model`; in evaluation mode where it is copied.
            name: of the way.
            keep: whether the weights of convolutions are kept in the order that oneDNN wants, see
                `OneDNNConvolutions`: for models that are called many times.

        Raises:
            InputError: the model cannot go this way.
        """
        self.name, self._model = name, model
        self.network = _MAKERS[name](model) if name in _MAKERS else model
        self._onednn = name in ("onednn", "folded") and _on_cpu(model) and torch.backends.mkldnn.is_available()
        if name == "onednn" and not self._onednn:
            where = "a torch without oneDNN" if _on_cpu(model) else "one on a GPU"
            raise InputError(f"route=onednn must have the model on a CPU, and oneDNN; got {where}: {_OTHERWISE}")
        self._kept: Any = WeakIdKeyDictionary() if keep else None

    def give_up(self) -> None:
        """Goes on with the model as it is, where its own code cannot do with tensors in another layout."""
        self.name, self.network, self._onednn = "as-is", self._model, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """For this block and this thread: `call_model`, and gradients inside of `model_errors`, go this way."""
        with self.network.turn if isinstance(self.network, Graphed) else nullcontext(), routed(self.mode):
            yield

    def mode(self) -> AbstractContextManager[Any]:
        """What `network` is to be called in where it is called directly, also where gradients are made."""
        return OneDNNConvolutions(self._kept) if self._onednn else nullcontext()


def route_name(model: Model, config: Config, many: bool) -> str:
    """The way that `config.route` asks for, where "auto" is decided without measuring.

    Args:
        model: see `call_model`.
        config: gives `route`, and what rules ways out.
        many: whether the model is called many times. What oneDNN gains by one forward and backward of R3D-50, it
            takes to bring the weights in its order.
    """
    if config.route == "auto":
        suits = config.dtype in (None, "float32") and not config.compat and torch.backends.mkldnn.is_available()
        return "onednn" if many and suits and _on_cpu(model) and _convolves(model) else "as-is"
    return config.route


def lasting_route(model: Model, config: Config) -> Route:
    """The way for call after call. Not by measuring: all processes of an audit must go the same, for the same bits.

    Raises:
        InputError: as `Route`.
    """
    return Route(model, route_name(model, config, many=True), keep=True)


def _on_cpu(model: Model) -> bool:
    return not isinstance(model, nn.Module) or all(weight.device.type == "cpu" for weight in model.parameters())


def _convolves(model: Model) -> bool:
    """Whether there may be 3-D convolutions that a function mode sees: not inside of compiled networks."""
    if not isinstance(model, nn.Module):
        return True
    modules = list(model.modules())
    compiled = any(isinstance(getattr(module, "_orig_mod", None), nn.Module) for module in modules)
    return not compiled and any(isinstance(module, nn.Conv3d) for module in modules)


def _folded(model: Model) -> nn.Module:
    """A copy of the network whose batch norms are part of the convolutions before them."""
    from torch.fx.experimental.optimization import fuse  # slow to import

    if not isinstance(model, nn.Module):
        raise InputError(f"route=folded must have a torch.nn.Module; got {type(model).__name__}: {_OTHERWISE}")
    with model_errors(f"torch.fx cannot trace it: {_OTHERWISE}"):
        network: nn.Module = fuse(model)
    return network.eval()


def _compiled(model: Model) -> Model:
    with model_errors(f"torch.compile cannot take it: {_OTHERWISE}"):
        compiled: Model = torch.compile(model, dynamic=False)
    return compiled


def _graphed(model: Model) -> nn.Module:
    if not isinstance(model, nn.Module) or _on_cpu(model):
        where = "one on a CPU" if isinstance(model, nn.Module) else type(model).__name__
        raise InputError(f"route=graphed must have a torch.nn.Module on a GPU; got {where}: {_OTHERWISE}")
    return Graphed(model)


_MAKERS: dict[str, Callable[[Model], Model]] = {"folded": _folded, "compiled": _compiled, "graphed": _graphed}
