"""Does a map depend on what the model has learnt? Cascade randomisation (Adebayo et al., 2018; method: section 9)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.behaviour import settle, study
from aosa_fast.inference.call import clean_logits
from aosa_fast.inference.precision import model_device
from aosa_fast.methods.inputs import upload
from aosa_fast.metrics.causal import check_video
from aosa_fast.metrics.similarity import Map, read_map, spearman, ssim
from aosa_fast.progress import Report, show_progress
from aosa_fast.targets import Difference, ResolvedTarget, Target, resolve_target

Explain = Callable[[nn.Module, Tensor, Target], Map]

# Parameters that no `reset_parameters` sets, such as class tokens, position embeddings and layer scales.
SPREAD = 0.02
# A group with more of the parameters than this would be nearly the whole network, and is split.
MOST = 0.9


@dataclass(frozen=True, eq=False)
class SanityStage:
    """What is left of the map once a network has forgotten its layers down to this one.

    Attributes:
        stage: the group of layers that was randomised last; "" before any was.
        spearman: (B,) float64, rank correlation with the trained network's map; NaN where a map is constant.
        spearman_absolute: (B,) float64, the same of the absolute values.
        ssim: (B,) float64, structural similarity with that map, mean over frames.
        logits: (B, n_classes) float32 of the clips, in main memory.
        probability: (B,) float32 of the explained class.
        saliency: (B, T, H, W) float64, the map, in main memory.
        metadata: every choice, in plain types.
    """

    stage: str
    spearman: Tensor
    spearman_absolute: Tensor
    ssim: Tensor
    logits: Tensor
    probability: Tensor
    saliency: Tensor
    metadata: dict[str, Any]


def sanity_check(
    model: nn.Module,
    video: Tensor,  # (B, C, T, H, W)
    target: Target,
    explain: Explain,
    *,
    stages: Sequence[str] | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> list[SanityStage]:
    """Randomises a copy of the model from the classifier to the first layer, and explains it after each group.

    Each module draws new weights by its own `reset_parameters`, which also resets the statistics of a batch norm; all
    other parameters are drawn from a normal distribution of standard deviation 0.02. Other buffers stay: they may be
    constants, such as a mean and a standard deviation. The random weights depend on `seed` and the stages alone, so
    that all methods see the same networks. The model itself is neither run nor changed.

    Args:
        model: maps (B, C, T, H, W) to logits.
        video: (B, C, T, H, W) float32, normalised as the model expects.
        target: as for `aosa_fast.explain`; "pred" is what the trained model predicts, at all stages.
        explain: a function of the network, in evaluation mode, the clips on its device, and the target, that gives the
            map (B, T, H, W); any method of any tool.
        stages: dotted names of modules, in the order of their randomisation. Default: see `default_stages`.
        seed: of the random weights.
        progress: as for `aosa_fast.explain`; a step is a network that is explained.

    Returns:
        The trained network first, with the stage "", then the stages; each also holds the earlier ones' random weights.

    Raises:
        InputError: an unknown stage, a model that cannot be copied, a map of another shape, no scikit-image.
        TypeError: `video` is not a float32 tensor.
    """
    check_video(video)
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module to be randomised; got {type(model).__name__}")
    names = default_stages(model) if stages is None else list(stages)
    for name in names:
        _owners(model, name)
    network = _copy(model)
    clips = upload(video.detach(), model_device(model, video.device))
    seen = study(network, clips, batched=len(clips) > 1)
    batches = BatchSize(seen.batch_size(0), clips.device)
    logits = clean_logits(network, clips, batches)
    settle(network, seen, logits, "prob")
    resolved = resolve_target(target, logits)
    # To the explainer in plain terms: the class may not change with the network.
    fixed: Target = resolved.index if resolved.minus is None else Difference(resolved.index, resolved.minus)
    metadata = {
        "seed": seed,
        "stages": names,
        "randomised by": "reset_parameters, else normal(0, 0.02)",
        "ssim": "uniform window of 7 pixels, mean over frames, maps scaled to 0..1 per clip",
        "target_index": resolved.index.tolist(),
    }
    results: list[SanityStage] = []
    with show_progress(progress, "sanity check") as report:
        for number, name in enumerate(["", *names]):
            report(number, 1 + len(names))
            if number:
                _randomise(network, name, int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
            # A copy of the clips: gradients that an explainer keeps in its input must not add up over the stages.
            saliency = read_map(explain(network, clips.clone(), fixed), "explain's map").cpu()
            if saliency.shape != (len(video), *video.shape[2:]):
                raise InputError(f"explain must return (B, T, H, W) like the video; got {tuple(saliency.shape)}")
            trained = results[0].saliency if results else saliency
            logits = clean_logits(network, clips, batches).cpu()
            likeness = spearman(trained, saliency), spearman(trained.abs(), saliency.abs()), ssim(trained, saliency)
            probability = ResolvedTarget(resolved.index).pick(logits.softmax(-1))
            results.append(SanityStage(name, *likeness, logits, probability, saliency, metadata))
    return results


def default_stages(model: nn.Module) -> list[str]:
    """Names of the model's groups of layers that hold parameters, the last one first.

    These are the model's direct children. A child that holds more than nine tenths of all parameters, as a wrapped
    network or an encoder does, and a list of modules, give their own children instead. The parameters that such a split
    module holds itself, as position embeddings, come after its layers, under its name followed by ".*" ("*" for the
    model's own).
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    return list(_split(model, "", MOST * total))[::-1]


def _split(module: nn.Module, name: str, most: float) -> Iterator[str]:
    """Names of the groups in a module, in the order of their definition."""
    if next(module.parameters(recurse=False), None) is not None:
        yield f"{name}.*".removeprefix(".")
    for child_name, child in module.named_children():
        own = f"{name}.{child_name}".removeprefix(".")
        size = sum(parameter.numel() for parameter in child.parameters())
        many = isinstance(child, nn.ModuleList | nn.ModuleDict) or size > most
        if many and next(child.children(), None) is not None:
            yield from _split(child, own, most)
        elif size:
            yield own


def _owners(model: nn.Module, stage: str) -> list[nn.Module]:
    """The modules whose own parameters belong to a stage."""
    name = stage.removesuffix("*").removesuffix(".")
    try:
        module = model.get_submodule(name)
    except AttributeError:
        known = ", ".join(default_stages(model))
        raise InputError(f"stages must be names of the model's modules, such as {known}; got {stage}") from None
    return [module] if stage.endswith("*") else list(module.modules())


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except (RuntimeError, TypeError, AttributeError, copy.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"model must allow copy.deepcopy to be randomised; {reason}") from None


def _randomise(network: nn.Module, stage: str, seed: int) -> None:
    """New weights for a stage, drawn in main memory: the same on all devices. Torch's generators stay as they are."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for module in _owners(network, stage):
            own = [p for p in module.parameters(recurse=False) if p.is_floating_point() or p.is_complex()]
            devices = [parameter.device for parameter in own]
            for parameter in own:
                parameter.data = torch.full_like(parameter, torch.nan, device="cpu")
            for reset in ("reset_running_stats", "reset_parameters"):
                if hasattr(module, reset):
                    getattr(module, reset)()
            for parameter, device in zip(own, devices, strict=True):
                # What no reset has reached would else keep what was learnt, weights under weight_norm for one.
                if parameter.isnan().any():
                    parameter.normal_(0, SPREAD)
                parameter.data = parameter.data.to(device)
