"""A model of Triton's Python backend that explains clips, in the batches that Triton's dynamic batcher makes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

from aosa_fast import Explainer, InputError, models


class TritonPythonModel:
    """One instance of the model; Triton calls its methods one after the other, never two at once."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model that `parameters` of config.pbtxt name, and finds out how it is run fastest."""
        config = json.loads(args["model_config"])
        given = {name: value["string_value"] for name, value in config["parameters"].items()}
        classifier = models.load(given["model"])
        classifier.network.to(given["device"])
        self.preprocessing = classifier.preprocessing
        self.explainer = Explainer(classifier, clips=config["max_batch_size"], method=given["method"])
        self.explainer.warmup()

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response for each request; what is wrong with one is the answer to that one alone."""
        answers: list[Any] = [self.read(request) for request in requests]
        good = [i for i, answer in enumerate(answers) if isinstance(answer, torch.Tensor)]
        if good:
            clips = [answers[i] for i in good]
            explanation = self.explainer(torch.cat(clips))
            probability, prediction = explanation.probabilities.max(1, keepdim=True)
            outputs = {"PREDICTION": prediction.int(), "PROBABILITY": probability, "SALIENCY": explanation.saliency}
            parts = {name: torch.split(values, [*map(len, clips)]) for name, values in outputs.items()}
            for place, i in enumerate(good):
                answers[i] = pb_utils.InferenceResponse(
                    [pb_utils.Tensor.from_dlpack(name, values[place]) for name, values in parts.items()]
                )
        return answers

    def read(self, request: Any) -> Any:
        """The clips of a request as the model sees them, (B, T, H, W, 3) uint8; or the response that refuses them."""
        clips = torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, "CLIP")).numpy()
        try:
            if clips.shape[1] != self.preprocessing.frames or 0 in clips.shape:
                raise InputError(
                    f"CLIP must be of {self.preprocessing.frames} frames, T in (B, T, H, W, 3); got {clips.shape}"
                )
            return torch.from_numpy(np.stack([self.preprocessing.cropped(clip) for clip in clips]))
        except InputError as error:
            refusal = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)

    def finalize(self) -> None:
        """Ends the explainer's threads."""
        self.explainer.close()
