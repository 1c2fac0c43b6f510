"""Dense optical flow of all frame pairs of all clips: our own Farnebäck, or OpenCV's methods (paper III-A)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast import _C
from aosa_fast.config import FLOWS
from aosa_fast.errors import InputError
from aosa_fast.kernels import farneback_numpy
from aosa_fast.libraries import cv2

if TYPE_CHECKING:
    from torch import Tensor

Frames = NDArray[np.uint8]  # (T, H, W, 3), RGB
FlowFunction = Callable[[Frames], Any]

_CONTRIB = {
    "tvl1": "DualTVL1OpticalFlow_create",
    "pcaflow": "createOptFlow_PCAFlow",
    "deepflow": "createOptFlow_DeepFlow",
    "simpleflow": "createOptFlow_SimpleFlow",
    "rlof": "createOptFlow_DenseRLOF",
}
_DIS = {
    "dis-ultrafast": "DISOPTICAL_FLOW_PRESET_ULTRAFAST",
    "dis-fast": "DISOPTICAL_FLOW_PRESET_FAST",
    "dis-medium": "DISOPTICAL_FLOW_PRESET_MEDIUM",
}
_IN_COLOUR = ("simpleflow", "rlof")
# Smallest side that each method takes, found by trying OpenCV 5.0: DIS says so itself, PCAFlow corrupts memory at 57
# pixels and below, and dense RLOF gives NaN, or something else each time, at 72 and below.
_LEAST_SIDE = {"dis-ultrafast": 12, "dis-fast": 12, "dis-medium": 12, "pcaflow": 64, "rlof": 80}


def optical_flow(
    frames: NDArray[np.uint8],
    method: str = "farneback",
    *,
    swapped_grey: bool = False,
    workers: int | None = None,
) -> Tensor:
    """Flow from every frame to the next, a tensor: see `dense_flow`; `workers` are as many as torch's by default."""
    import torch

    if method != "farneback":
        threads = torch.get_num_threads() if workers is None else workers
        return torch.from_numpy(dense_flow(frames, method, swapped_grey=swapped_grey, workers=threads))
    from aosa_fast.kernels.farneback import farneback
    from aosa_fast.kernels.pictures import grey_frames

    _check(frames, method)
    return farneback(grey_frames(torch.from_numpy(np.ascontiguousarray(frames[..., ::-1] if swapped_grey else frames))))


def dense_flow(
    frames: NDArray[np.uint8], method: str = "farneback", *, swapped_grey: bool = False, workers: int = 1
) -> NDArray[np.float32]:
    """Flow from every frame to the next, without torch.

    Args:
        frames: (B, T, H, W, 3) uint8, RGB.
        method: "farneback" (0.5, 3, 15, 3, 5, 1.2, as the authors use it) by our own operator, or one of OpenCV's:
            "farneback-opencv", "dis-ultrafast", "dis-fast", "dis-medium", or, with opencv-contrib-python, "tvl1",
            "pcaflow", "deepflow", "simpleflow" and "rlof".
        swapped_grey: weigh red as blue and blue as red when making grey, as the authors' code does.
        workers: threads; of OpenCV's methods over frame pairs, as OpenCV itself uses one each.

    Returns:
        (B, T-1, H, W, 2) float32, (dx, dy), pixels. The same bits for any number of workers.

    Raises:
        InputError: an unknown method, one that this OpenCV lacks, or frames too small for it.
    """
    _check(frames, method)
    clips, count, height, width, _ = frames.shape
    target = np.empty((clips, count - 1, height, width, 2), np.float32)
    if method == "farneback":
        grey = np.empty(frames.shape[:-1], np.uint8)
        _C.grey_frames(np.ascontiguousarray(frames[..., ::-1] if swapped_grey else frames), grey, workers)
        farneback_numpy.farneback(grey, target, threads=workers)
        return target
    pictures = [_prepare(clip, method, swapped_grey) for clip in frames]
    pairs = [(b, t) for b in range(clips) for t in range(count - 1)]
    estimators = threading.local()  # OpenCV's objects are not safe to share between threads

    def run(pair: tuple[int, int]) -> None:
        b, t = pair
        if not hasattr(estimators, "estimate"):
            estimators.estimate = _estimator(method)
        target[b, t] = estimators.estimate(pictures[b][t], pictures[b][t + 1])

    workers = min(len(pairs), workers)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # its own threads gain less than ours over pairs, and lose on small frames
    try:
        if workers <= 1:
            for pair in pairs:
                run(pair)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(run, pairs))
    except cv2.error as error:
        raise InputError(f"flow={method} must fit frames of {height}x{width}; OpenCV says: {error.err}") from None
    finally:
        cv2.setNumThreads(before)
    return target


def _check(frames: NDArray[np.uint8], method: str) -> None:
    if method not in FLOWS:
        raise InputError(f"flow must be one of {', '.join(FLOWS)}; got {method}")
    contrib = _CONTRIB.get(method)
    if contrib and not hasattr(getattr(cv2, "optflow", None), contrib):
        raise InputError(
            f"flow={method} must have OpenCV's contrib modules; got {cv2.__version__} without them: "
            "pip install --force-reinstall --no-deps opencv-contrib-python"
        )
    if frames.dtype != np.uint8 or frames.ndim != 5 or not frames.shape[1] or frames.shape[4] != 3:
        raise InputError(f"frames must be uint8 of shape (B, T, H, W, 3), T >= 1; got {frames.dtype} {frames.shape}")
    height, width = frames.shape[2:4]
    if min(height, width) < _LEAST_SIDE.get(method, 4):
        raise InputError(f"flow={method} must have frames of at least {_LEAST_SIDE.get(method, 4)} pixels a side; "
                         f"got {height}x{width}")  # fmt: skip


def resolve_flow(
    flow: str | Tensor | NDArray[np.float32] | FlowFunction,
    frames: NDArray[np.uint8],
    *,
    pictures: Tensor | None = None,
    compat: bool = False,
) -> Tensor:
    """Flow by name, or the user's own: a tensor (B, T-1, H, W, 2) or a function of one clip's frames (T, H, W, 3).

    Args:
        flow: see above.
        frames: (B, T, H, W, 3) uint8, RGB.
        pictures: the same on a GPU, if the flow is wanted there; "farneback" is then made there.
        compat: as the authors' code: OpenCV's implementation, of frames whose red and blue are swapped.

    Returns:
        (B, T-1, H, W, 2) float32, on the device of `pictures`.

    Raises:
        InputError: as `optical_flow`; or the user's flow has another shape or is not floating point.
    """
    import torch

    device = torch.device("cpu") if pictures is None else pictures.device
    if isinstance(flow, str) and flow == "farneback" and pictures is not None and device.type == "cuda":
        from aosa_fast.kernels.farneback import farneback
        from aosa_fast.kernels.pictures import grey_frames

        return farneback(grey_frames(pictures))
    if isinstance(flow, str):
        name = "farneback-opencv" if compat and flow == "farneback" else flow
        return optical_flow(frames, name, swapped_grey=compat).to(device)
    clips, count, height, width, _ = frames.shape
    values = torch.stack([_tensor(flow(clip)) for clip in frames]) if callable(flow) else _tensor(flow)
    if values.ndim == 4 and clips == 1:
        values = values.unsqueeze(0)
    expected = (clips, count - 1, height, width, 2)
    if tuple(values.shape) != expected:
        raise InputError(f"flow must have shape {expected}, (dx, dy) in pixels; got {tuple(values.shape)}")
    if not values.is_floating_point():
        raise InputError(f"flow must be floating point; got {values.dtype}")
    return values.detach().to(device, torch.float32)


def _prepare(clip: Frames, method: str, swapped_grey: bool) -> list[NDArray[np.uint8]]:
    grey = cv2.COLOR_BGR2GRAY if swapped_grey else cv2.COLOR_RGB2GRAY
    code = cv2.COLOR_RGB2BGR if method in _IN_COLOUR else grey
    return [cv2.cvtColor(frame, code) for frame in clip]


def _estimator(method: str) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]:
    estimate: Any  # what OpenCV's stubs say of it changes from version to version
    if method == "farneback-opencv":
        estimate = cv2.calcOpticalFlowFarneback
        return lambda a, b: estimate(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    if method in _DIS:
        estimate = cv2.DISOpticalFlow.create(getattr(cv2, _DIS[method])).calc
    else:
        estimate = getattr(cv2.optflow, _CONTRIB[method])().calc
    return lambda a, b: estimate(a, b, None)


def _tensor(values: Any) -> Tensor:
    import torch

    # With its device: torch's default device is for the caller's own tensors.
    return values if isinstance(values, torch.Tensor) else torch.as_tensor(values, device="cpu")
