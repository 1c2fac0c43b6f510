"""Maps from Ray Serve: post the pictures of a clip, (T, H, W, 3) uint8 as they lie in memory; get (T, H, W) float32."""

import asyncio
import math

import numpy as np
import torch
from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from aosa_fast import Explainer, Explanation, models


@serve.deployment(max_ongoing_requests=8, max_queued_requests=8)  # a batch runs, the next one fills, 8 wait: then 503
class Maps:
    """One model in a process of its own."""

    def __init__(self, model: str = "demo", device: str = "cpu", **choices: str) -> None:
        classifier = models.load(model)
        classifier.network.to(device)
        self.shape = (classifier.preprocessing.frames, *classifier.preprocessing.crop, 3)
        self.explainer = Explainer(classifier, clips=4, **choices)
        self.explainer.warmup()

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.005)
    async def explain(self, clips: list[np.ndarray]) -> list[tuple[Explanation, int]]:
        """The clips of a batch in a thread, so that the event loop takes in others and answers Ray's health checks."""
        found = await asyncio.to_thread(self.explainer, torch.from_numpy(np.stack(clips)))
        return [(found, place) for place in range(len(clips))]

    async def __call__(self, request: Request) -> Response:
        """The answer to a POST."""
        body = await request.body()
        if len(body) != math.prod(self.shape):  # in a batch, it would be the error of all others as well
            return PlainTextResponse(f"the body must be {self.shape} uint8; got {len(body)} bytes", 400)
        found, i = await self.explain(np.frombuffer(body, np.uint8).reshape(self.shape))
        probability, index = found.probabilities[i].max(0)
        headers = {"X-Aosa-Prediction-Index": f"{index}", "X-Aosa-Probability": f"{probability:.9g}"}
        return Response(found.saliency[i].numpy().tobytes(), 200, headers, "application/octet-stream")


def app(choices: dict[str, str]) -> serve.Application:
    """`serve run ray_serve:app model=torchvision:r3d_18 method=aosa`."""
    return Maps.bind(**choices)
