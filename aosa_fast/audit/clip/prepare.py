"""Read a clip of an audit, and find what moves in it: all that can be done before the model."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.camera import camera_length, camera_motion
from aosa_fast.audit.clip.motion import letterbox, moving_pixels, static_pixels
from aosa_fast.audit.tasks import Prepared
from aosa_fast.data.content import content_id
from aosa_fast.methods.flow import dense_flow

if TYPE_CHECKING:
    from aosa_fast.audit.settings import AuditSettings
    from aosa_fast.data import Dataset, Sample
    from aosa_fast.models.preprocess import Preprocessing

_DIGITS = 32


class Preparer:
    """Makes samples of a data set, which need not list them, ready for a model, one at a time.

    The optical flow method is that of the settings' config.
    """

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, settings: AuditSettings) -> None:
        self.dataset, self.preprocessing, self.settings = dataset, preprocessing, settings

    def prepare(self, sample: Sample) -> Prepared:
        """Read a sample, follow its motion, and find its camera's motion and the pixels that never change.

        Raises:
            InputError: the sample cannot be read, or is too small for the flow.
            OSError: the file system says so; the message names the file.
        """
        start = time.perf_counter()
        clip = self.dataset.read(sample, self.preprocessing)
        content = _hash_frames(clip.frames) if sample.path is None else content_id(sample.path)
        after_read = time.perf_counter()
        flow = dense_flow(clip.frames[None], self.settings.config.flow)[0]
        after_flow = time.perf_counter()
        # A looped clip leaps where it begins again: what moves is found before, and repeated.
        count = len(clip.frames)
        distinct = count - clip.looped
        frames, pairs = clip.frames[:distinct], flow[: distinct - 1]
        static, bars = static_pixels(frames), letterbox(frames)
        camera = camera_motion(pairs, bars)
        moving = moving_pixels(pairs, camera, frames)[np.arange(count) % distinct] & ~bars
        return Prepared(
            sample=sample,
            clip=clip,
            flow=flow,
            moving=moving,
            static=static,
            letterbox=bars,
            camera=camera_length(camera, *frames.shape[1:3]),
            content_hash=content,
            seconds={
                "read": after_read - start,
                "flow": after_flow - after_read,
                "motion": time.perf_counter() - after_flow,
            },
        )


def _hash_frames(frames: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(str(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()[:_DIGITS]
