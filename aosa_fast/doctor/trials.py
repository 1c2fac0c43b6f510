"""What `doctor` tries: operators against their references, readers, and the ways that are fast; each is called alone.

Each function gives the state, a sentence and a command of a `doctor.Check`, and facts; or it raises what is wrong.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from aosa_fast.doctor.attempts import Facts
from aosa_fast.errors import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RIGHT = 1e-4  # largest error of an operator, as a share of its largest value
HALF_RIGHT = 0.05  # likewise of a convolution in bfloat16


def about_torch() -> Facts:
    """What torch is made for, and how many threads it takes."""
    import torch

    return {"cuda": torch.version.cuda, "threads": torch.get_num_threads()}


def about_opencv() -> Facts:
    """Which build of OpenCV it is that is imported."""
    import cv2

    if not hasattr(cv2, "__version__"):
        raise ImportError("the folder cv2 holds no OpenCV")
    lines = [line.split() for line in cv2.getBuildInformation().splitlines()]
    gui = next((words[1:] for words in lines if words[:1] == ["GUI:"]), ["NONE"])
    return {"build": cv2.__version__, "gui": gui != ["NONE"], "contrib": hasattr(cv2, "optflow")}


def extension() -> Facts:
    """The operators in C++."""
    import platform

    from aosa_fast import _C

    facts = {"simd": _C.simd_level(), "difference": _operators("cpu")}
    text = f"the C++ operators give their references' answers, with {facts['simd']} instructions"
    slow = facts["simd"] == "baseline" and platform.machine().lower() in ("x86_64", "amd64")
    return _said("slow" if slow else "ok", text + (": there is no AVX2" if slow else ""), facts)


def compiled_code() -> Facts:
    """Numba, its cache, and what it compiles."""
    from aosa_fast.kernels.jit import preload

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        start = time.perf_counter()
        preload().join()
        seconds = time.perf_counter() - start
        difference = _operators("cpu")
    facts = {"seconds": seconds, "difference": difference, "kept": not told}
    if any("cannot be imported" in str(warning.message) for warning in told):
        raise ImportError(str(told[-1].message))
    if told:
        return _said("slow", str(told[0].message), facts, "export NUMBA_CACHE_DIR=/tmp/numba")
    return _said("ok", f"Numba's code gives its references' answers; it was loaded in {seconds:.1f} s", facts)


def _operators(device: str) -> float:
    """The largest difference of the operators from their references, as a share; raises where it is too large."""
    import torch

    from aosa_fast.kernels import reference
    from aosa_fast.kernels.field import field_scores
    from aosa_fast.kernels.partners import select_partners
    from aosa_fast.kernels.saliency_map import saliency_map
    from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors

    random, size = torch.Generator().manual_seed(0), (24, 32)
    video, grad = torch.randn(2, 1, 3, 4, *size, generator=random)
    flow = torch.randn(1, 3, *size, 2, generator=random)
    tracks, alive = track_anchors(flow.to(device), 8)
    boxes, members = rasterize_boxes(tracks, alive, (8, 8), *size), select_partners(tracks, 3)
    field, scores = field_scores(video.to(device), grad.to(device), boxes, members)
    made = [tracks, boxes, members, field, scores, *saliency_map(scores, boxes, members, *size)]
    tracks, boxes, members, field, scores, *_ = made = [values.cpu() for values in made]
    right = [reference.track_anchors(flow, 8)[0], reference.rasterize_boxes(tracks, alive.cpu(), (8, 8), *size)]
    right += [reference.select_partners(tracks, 3), *reference.field_scores(video, grad, boxes, members)]
    right += reference.saliency_map(scores, boxes, members, *size)
    return _checked(max(_difference(*pair) for pair in zip(made, right, strict=True)), RIGHT, "operators differ")


def reader_pyav() -> Facts:
    """PyAV on the embedded clip."""
    return _said("ok", f"PyAV reads the embedded clip, {len(_clip('pyav'))} frames", {})


def reader_torchcodec() -> Facts:
    """torchcodec beside it."""
    import torchcodec.decoders  # noqa: F401 - says what is wrong, as the reader does not

    difference = int(abs(_clip("torchcodec").astype(int) - _clip("pyav")).max())
    text = f"torchcodec reads the embedded clip; its pixels differ from PyAV's by {difference} of 255 at most"
    return _said("ok", text, {"difference": difference})


def _clip(reader: str) -> NDArray[Any]:
    from aosa_fast.demo import demo_clip_path
    from aosa_fast.video import read_clip

    return read_clip(demo_clip_path(), 16, reader=reader).frames


def explain() -> Facts:
    """All of it: the embedded clip and network."""
    import aosa_fast
    from aosa_fast.demo import demo_clip_path, demo_truth

    start = time.perf_counter()
    (found,) = aosa_fast.explain("demo", demo_clip_path()).metadata["prediction"]
    seconds = time.perf_counter() - start
    if found != (right := demo_truth()["class_name"]):
        raise ArithmeticError(f"it is taken for {found}, and is {right}")
    return _said("ok", f"the embedded clip is explained in {seconds:.1f} s", {"seconds": seconds})


def onednn() -> Facts:
    """3-D convolutions of single clips on the CPU."""
    import torch

    from aosa_fast.inference.convolution import OneDNNConvolutions

    if not torch.backends.mkldnn.is_available():
        raise RuntimeError("this torch has no oneDNN")
    random = torch.Generator().manual_seed(0)
    video = torch.randn(1, 32, 8, 28, 28, generator=random)  # so small that ATen itself takes another way
    weight = torch.randn(32, 32, 3, 3, 3, generator=random)

    def run(mode: AbstractContextManager[Any]) -> Tensor:
        with mode, torch.inference_mode():
            return torch.conv3d(video, weight, None, 1, 1)  # as `nn.Conv3d` calls it

    ways = (lambda: run(nullcontext()), lambda: run(OneDNNConvolutions()))
    _checked(_difference(ways[1](), ways[0]()), RIGHT, "a convolution differs")
    plain, own = _in_turns(*ways)
    text = f"oneDNN makes a convolution of a single clip in {own / plain:.2f} of the time of torch's own way"
    return _said("ok", text, {"share": own / plain})


def gpu() -> Facts:
    """Triton's operators on the first GPU."""
    import torch

    with warnings.catch_warnings(record=True) as told:  # such as that the driver is too old
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    facts = {"cuda": torch.version.cuda or torch.version.hip, "driver": shutil.which("nvidia-smi") is not None}
    if there:
        name = f"{torch.cuda.get_device_name()}, sm_{''.join(map(str, torch.cuda.get_device_capability()))}"
        _operators("cuda")
        return _said("ok", f"Triton's operators give their references' answers on {name}", {**facts, "gpu": name})
    if not facts["driver"]:
        return _said("missing", "there is no GPU that torch can use: all is done on the processor", facts)
    if facts["cuda"]:
        raise RuntimeError(brief(told[0].message) if told else "there is a driver, and torch finds no GPU")
    command = 'pip uninstall -y torch && pip install "torch>=2.6" aosa-fast'
    return _said("slow", "there is an NVIDIA driver, and this torch is a build without CUDA", facts, command)


def conv3d_bfloat16() -> Facts:
    """bfloat16 beside float32 in a 3-D convolution on a GPU: cuDNN 9.8 to 9.14 err, and torch 2.9 goes round them."""
    import torch

    if not torch.cuda.is_available():
        text = "there is no GPU: bfloat16's traps in torch 2.9 and cuDNN 9.8 to 9.14 are no matter"
        return _said("ok", text, {}) | {"tried": False}
    video, weight = torch.randn(1, 64, 8, 56, 56, device="cuda"), torch.randn(64, 64, 3, 3, 3, device="cuda")
    half = video.bfloat16(), weight.bfloat16()

    def run(video: Tensor, weight: Tensor) -> Tensor:
        with torch.inference_mode():
            made = torch.conv3d(video, weight, None, 1, 1)
        torch.cuda.synchronize()
        return made

    difference = _difference(run(*half), run(*(values.float() for values in half)))
    _checked(difference, HALF_RIGHT, "a convolution in bfloat16 differs from float32's")
    single, own = _in_turns(lambda: run(video, weight), lambda: run(*half))
    facts = {"cudnn": torch.backends.cudnn.version(), "share": own / single, "difference": difference}
    text = f"a 3-D convolution in bfloat16 takes {own / single:.2f} of the time of float32, with cuDNN {facts['cudnn']}"
    newer = 'pip install "torch>=2.10" aosa-fast'
    return _said("slow", text, facts, newer) if own > single else _said("ok", text, facts)


def _said(state: str, text: str, facts: Facts, command: str = "") -> Facts:
    return {"state": state, "text": text, "command": command, "facts": facts}


def _difference(own: Tensor, right: Tensor) -> float:
    own, right = own.double(), right.double()
    return float((own - right).abs().max() / right.abs().max().clamp(min=1e-30))


def _checked(difference: float, most: float, what: str) -> float:
    if not difference <= most:
        raise ArithmeticError(f"{what} by {difference:.1e} of the largest value")
    return difference


def _in_turns(*ways: Callable[[], Any], rounds: int = 5) -> list[float]:
    """The least seconds of each way, after one round that warms up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds + 1):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    return [min(taken[1:]) for taken in seconds]
