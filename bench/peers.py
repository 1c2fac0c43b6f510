"""Our methods beside other packages' and the authors' dense masks, on one clip and one network, in one process.

Each is run in its best configuration: in batches of the size at which the bare network is fastest here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aosa_fast import Explainer, explain
from aosa_fast.bench.baselines import dense_channels, numpy_partners
from aosa_fast.bench.check import MismatchError, close
from aosa_fast.bench.harness import Cases, interleave, ratios
from aosa_fast.bench.inputs import MEAN, STD, moving_frames, normalised
from aosa_fast.bench.network import forward, forward_and_backward, in_batches
from aosa_fast.bench.plot import AUTHORS, FLOOR, OURS, RATIO
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Report
from aosa_fast.explanation import Explanation
from aosa_fast.kernels.field import conditional_mean
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors
from aosa_fast.libraries import is_installed
from aosa_fast.methods.flow import optical_flow

PASSES = f"{FLOOR}, forward + backward"
STEPS = 8  # of all methods that take steps or samples
BATCHES = (1, 2, 4, 8)
_PYTORCH_GRAD_CAM = "pytorch-grad-cam, GradCAM"
# Who does the same work as which of ours.
PAIRS = {
    "authors, dense masks, s=8": "aosa_fast, AOSA-approx, s=8",
    "authors, dense masks, s=4": "aosa_fast, AOSA-approx, s=4",
    "Captum, Saliency": "aosa_fast, gradient",
    f"Captum, NoiseTunnel of Saliency, {STEPS}": f"aosa_fast, SmoothGrad, {STEPS}",
    f"Captum, IntegratedGradients, {STEPS}": f"aosa_fast, AOSA-path, {STEPS}",
    "Captum, Occlusion, 49 windows": "aosa_fast, OSA, 49 cuboids",
    "Captum, LayerGradCam": "aosa_fast, Grad-CAM",
    _PYTORCH_GRAD_CAM: "aosa_fast, Grad-CAM",
    "torchcam, GradCAM": "aosa_fast, Grad-CAM",
}


@dataclass(frozen=True)
class Work:
    """What everybody explains.

    Attributes:
        model: a module.
        layer: the name of its last stage.
        video: (1, 3, T, H, W), as the model takes it.
        frames: (1, T, H, W, 3) uint8, what the authors' flow sees.
        target: the class.
        forwards: clips in a batch of forwards.
        passes: clips in a batch of forwards and backwards.
    """

    model: nn.Module
    layer: str
    video: Tensor
    frames: Any
    target: int
    forwards: int = 1
    passes: int = 1

    def probabilities(self, clips: Tensor) -> Tensor:
        """(B, classes)."""
        return self.model(clips).softmax(-1)

    def explain(self, method: str, **options: Any) -> Explanation:
        """By ours."""
        found = explain(self.model, self.video, self.target, method=method, mean=MEAN, std=STD, **options)
        assert isinstance(found, Explanation)
        return found


def peers(report: Report, quick: bool) -> None:
    """Everybody in turns, over one forward and one backward to the input."""
    video = normalised(moving_frames())
    model = r3d50()
    target = int(forward(model, video).argmax())
    sizes = best_batches(model, video, BATCHES[: -1 if quick else None])
    work = Work(model, "blocks.15", video, moving_frames(), target, *sizes)
    print(f"  batches of {work.forwards} forwards, and of {work.passes} forwards and backwards")
    warm = Explainer(model, mean=MEAN, std=STD, stride=8)
    print("  " + str(warm.warmup(video)).replace("\n", "\n  "))
    report.section("R3D-50, one clip of 16x112x112, one class, from the clip to the map, flow included")
    cases: Cases = {PASSES: partial(forward_and_backward, model, video), **ours(work), **theirs(work)}
    cases[f"{OURS}, AOSA-approx, warm, s=8"] = partial(warm, video)
    timed = interleave(cases, 2 if quick else 15, 1)
    for name, seconds in timed.items():
        report.time(name, seconds)
    for name, seconds in timed.items():
        report.add(name, RATIO, "ratio", ratios(seconds, timed[PASSES]))
    for name, own in PAIRS.items():
        if name in timed:
            report.add(name, f"time / {own}", "ratio", ratios(timed[name], timed[own]))


def best_batches(model: nn.Module, video: Tensor, sizes: tuple[int, ...]) -> tuple[int, int]:
    """The sizes at which the bare network does most clips a second: forwards; forwards and backwards."""
    many = video.repeat(max(sizes), 1, 1, 1, 1)
    found = []
    for run in (forward, forward_and_backward):
        timed = interleave({str(size): partial(in_batches, run, model, many, size) for size in sizes}, 2, 0)
        found.append(int(min(timed, key=lambda name: float(np.median(timed[name])))))
    return found[0], found[1]


def ours(work: Work) -> Cases:
    """What this package does."""
    forwards, passes = {"batch_size": work.forwards}, {"batch_size": work.passes}
    cuboids = {"stride": 16, "cuboid_frames": 16, "cuboid_step": 16, **forwards}
    return {
        f"{OURS}, AOSA-approx, s=8": partial(work.explain, "aosa-approx", stride=8),
        f"{OURS}, AOSA-approx, s=4": partial(work.explain, "aosa-approx", stride=4),
        f"{OURS}, AOSA-path, {STEPS}": partial(work.explain, "aosa-path", stride=8, steps=STEPS, **passes),
        f"{OURS}, exact AOSA, s=16": partial(work.explain, "aosa", stride=16, **forwards),
        f"{OURS}, gradient": partial(work.explain, "gradient"),
        f"{OURS}, SmoothGrad, {STEPS}": partial(work.explain, "smoothgrad", noise_samples=STEPS, **passes),
        f"{OURS}, OSA, 49 cuboids": partial(work.explain, "osa", **cuboids),
        f"{OURS}, Grad-CAM": partial(work.explain, "grad-cam", layer=work.layer, cam_weights="global", score="logit"),
    }


def theirs(work: Work) -> Cases:
    """What others do; each call begins with the clip, and ends with a map."""
    from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Occlusion, Saliency

    saliency = Saliency(work.probabilities)
    leaf = work.video.clone().requires_grad_()  # or Captum warns
    about = {"target": work.target}
    spread = 0.15 * float(work.video.max() - work.video.min())
    tunnel = {"nt_type": "smoothgrad", "nt_samples": STEPS, "nt_samples_batch_size": work.passes, "stdevs": spread}
    points = {"n_steps": STEPS, "internal_batch_size": work.passes}
    windows = {"sliding_window_shapes": (3, 16, 16, 16), "strides": (3, 16, 16, 16)}
    layer = work.model.get_submodule(work.layer)
    cams = {_PYTORCH_GRAD_CAM: partial(_pytorch_grad_cam, work, layer)}
    return {
        "Captum, Saliency": lambda: saliency.attribute(leaf, **about),
        f"Captum, NoiseTunnel of Saliency, {STEPS}": lambda: NoiseTunnel(saliency).attribute(leaf, **about, **tunnel),
        f"Captum, IntegratedGradients, {STEPS}": lambda: IntegratedGradients(work.probabilities).attribute(
            work.video, **about, **points
        ),
        "Captum, Occlusion, 49 windows": lambda: _occlusion(Occlusion(work.probabilities), work, windows),
        "Captum, LayerGradCam": lambda: _stretched(
            LayerGradCam(work.model, layer).attribute(work.video, **about, relu_attributions=True), work
        ),
        **(cams if is_installed("pytorch_grad_cam") else {}),
        "torchcam, GradCAM": partial(_torchcam, work),
        f"{AUTHORS}, dense masks, s=8": partial(dense_approx, work, 8),
        f"{AUTHORS}, dense masks, s=4": partial(dense_approx, work, 4),
    }


@torch.no_grad()
def _occlusion(occlusion: Any, work: Work, windows: dict[str, Any]) -> Tensor:
    found: Tensor = occlusion.attribute(work.video, target=work.target, perturbations_per_eval=work.forwards, **windows)
    return found


def _stretched(cells: Tensor, work: Work) -> Tensor:
    return interpolate(cells.detach(), work.video.shape[2:], mode="trilinear", align_corners=False)[0, 0]


def _pytorch_grad_cam(work: Work, layer: nn.Module) -> Any:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(work.model, [layer]) as cam:
        found = cam(work.video, [ClassifierOutputTarget(work.target)])[0]
    work.model.zero_grad()  # it takes the gradients of all weights too, and leaves them there
    return found


def _torchcam(work: Work) -> Tensor:
    from torchcam.methods import GradCAM

    with GradCAM(work.model, work.layer, tuple(work.video.shape[1:])) as cam:
        cells = cam(work.target, work.model(work.video))[0]
    return _stretched(cells.reshape(1, 1, *cells.shape[-3:]), work)


def dense_approx(work: Work, stride: int) -> Tensor:
    """AOSA-approx as the authors do it: a mask of the whole clip, in each of its channels, for each tube; (T, H, W).

    The masks are made by array operations, so that no loop over boxes makes it slower than masks are. Its scores are
    ours, with the ReLU, and weights get no gradients: both leave it no dearer than it was.
    """
    flow = optical_flow(work.frames, "farneback-opencv")
    tracks, alive = track_anchors(flow, stride)
    boxes = rasterize_boxes(tracks, alive, (16, 16), *flow.shape[2:4])
    members = torch.from_numpy(numpy_partners(tracks[0].numpy(), 3))
    leaf = work.video.clone().requires_grad_()
    (grad,) = torch.autograd.grad(work.probabilities(leaf)[0, work.target], leaf)
    drops = (grad * (work.video - conditional_mean(work.video))).relu_()[0]
    return dense_channels(drops, boxes[0], members)


def check_answers(quick: bool) -> None:
    """On a small network: who does the same work as ours comes to the same answer.

    Raises:
        MismatchError: an answer differs.
    """
    print("\nChecks of other packages against ours")
    torch.manual_seed(0)
    body = (nn.Conv3d(3, 8, 3, 2), nn.ReLU(), nn.Conv3d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    model = nn.Sequential(*body, nn.Linear(8, 5)).eval()
    frames = moving_frames()
    work = Work(model, "2", normalised(frames), frames, 2, 4, 4)
    own, other = ours(work), theirs(work)
    maps: dict[str, Any] = {name: run() for name, run in {**own, **other}.items() if not _is_slow(name, quick)}
    drop = maps["Captum, Occlusion, 49 windows"][0, 0, 8, 8::16, 8::16].flatten()
    close("Captum, Occlusion: scores", drop, maps[f"{OURS}, OSA, 49 cuboids"].scores[0], 1e-3)
    close("Captum, Saliency: map", maps["Captum, Saliency"].abs().sum(1), maps[f"{OURS}, gradient"].saliency)
    cam = maps[f"{OURS}, Grad-CAM"].saliency[0]
    close("Captum, LayerGradCam: map", maps["Captum, LayerGradCam"], cam)
    _alike("torchcam, GradCAM", maps["torchcam, GradCAM"], cam)
    if _PYTORCH_GRAD_CAM in maps:  # it stretches the same cells by cubic splines, from corner to corner
        _alike(_PYTORCH_GRAD_CAM, torch.from_numpy(maps[_PYTORCH_GRAD_CAM]), cam, 0.8)
    else:
        print("  pytorch-grad-cam is left out, for it is missing: pip install --no-deps grad-cam ttach")
    found = explain(model, work.video, 2, frames=frames, flow="farneback-opencv", stride=8, mean=MEAN, std=STD)
    assert isinstance(found, Explanation)
    _alike("authors, dense masks, s=8", maps["authors, dense masks, s=8"], found.saliency[0])


def _is_slow(name: str, quick: bool) -> bool:
    return quick and name.endswith("s=4")


def _alike(name: str, got: Tensor, wanted: Tensor, least: float = 0.999) -> None:
    """Up to a scale, which some packages leave out."""
    agreement = float(torch.corrcoef(torch.stack([got.flatten().double(), wanted.flatten().double()]))[0, 1])
    if not agreement >= least:
        raise MismatchError(f"{name}: Pearson's correlation with ours must be at least {least}; got {agreement:.3f}")
    print(f"  {name:46} correlation {agreement:.3f}")
