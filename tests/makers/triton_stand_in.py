"""As much of Triton's `triton_python_backend_utils` as a model asks for, where no server brings its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from numpy.typing import NDArray


class TritonError:
    INVALID_ARG = object()

    def __init__(self, message: str, code: object = None) -> None:
        self.text, self.code = message, code


class Tensor:
    def __init__(self, name: str, values: torch.Tensor) -> None:
        self.name, self.values = name, values

    @staticmethod
    def from_dlpack(name: str, values: torch.Tensor) -> Tensor:
        assert values.is_contiguous()  # the server takes no others
        return Tensor(name, values)

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor] | None = None, error: TritonError | None = None) -> None:
        self.outputs, self.error = output_tensors or [], error


def get_input_tensor_by_name(request: list[Tensor], name: str) -> Tensor:
    return next(tensor for tensor in request if tensor.name == name)


@contextmanager
def loaded(path: Path, parameters: dict[str, str]) -> Iterator[Any]:
    """The model of a file, between its `initialize` and its `finalize`."""
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, triton_python_backend_utils=sys.modules[__name__]):
        spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    given = {name: {"string_value": value} for name, value in parameters.items()}
    model.initialize({"model_config": json.dumps({"max_batch_size": 4, "parameters": given})})
    try:
        yield model
    finally:
        model.finalize()


def execute(model: Any, name: str, inputs: list[NDArray[Any]]) -> list[dict[str, NDArray[Any]] | str]:
    """The outputs by name, or the error, of requests of one input each that come together."""
    answers = model.execute([[Tensor(name, torch.from_numpy(values))] for values in inputs])
    return [
        answer.error.text if answer.error else {output.name: output.values.numpy() for output in answer.outputs}
        for answer in answers
    ]
