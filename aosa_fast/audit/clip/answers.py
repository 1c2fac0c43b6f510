"""What a model says of clips, whole or with a part of them hidden, without explaining anything."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import clean_logits, evaluating
from aosa_fast.inference.precision import model_device, precision
from aosa_fast.inference.routes import Route
from aosa_fast.methods.fills import make_fill
from aosa_fast.methods.inputs import bring_clips
from aosa_fast.models import Classifier
from aosa_fast.pipeline import first_look
from aosa_fast.targets import probabilities


def answers(
    classifier: Classifier,
    frames: NDArray[np.uint8],
    config: Config,
    route: Route,
    hidden: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The probabilities (B, n_classes) of clips.

    Args:
        classifier: the model.
        frames: (B, T, H, W, 3), RGB, as the model sees them.
        config: gives the fill, the precision, the batch size and the score, which says what a probability is.
        route: of the model, see `lasting_route`.
        hidden: (B, T, H, W), the voxels that the fill replaces; None: none.

    Raises:
        InputError: as `explain`.
    """
    network, given = classifier.network, classifier.preprocessing
    device = model_device(network, torch.device("cpu"))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext(), torch.inference_mode(False):
        video = bring_clips(torch.from_numpy(frames), None, given.mean, given.std, config, device).video
        with evaluating(network), precision(config.dtype, device):
            seen = first_look(route, video, config)
            if hidden is not None:
                inside = torch.from_numpy(hidden).to(device)[:, None]
                video = torch.where(inside, make_fill(video, config, given.mean, given.std), video)
            with route():
                batches = BatchSize(seen.batch_size(config.batch_size), device)
                logits = clean_logits(route.network, video, batches, config.dtype)
    return probabilities(logits.cpu(), config.score_name, seen.output).double().numpy()
