"""The kinds of models that `--model SPEC` means, one record each, free of torch, for loading, help and listings."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.registry import Registry, or_list


@dataclass(frozen=True)
class ModelFamily:
    """A kind of models.

    Attributes:
        name: what a spec begins with, before the first colon.
        spec: how it is written.
        help: one sentence for listings.
        load: "PACKAGE.MODULE:FUNCTION", a function of (spec, rest), what follows the colon, that returns a `Classifier`
            in evaluation mode. What it fetches from the net it does only if `models.downloads.downloads_allowed()`.
        runs_code: whether loading runs code of the model's authors, rather than reads their tensors.
        library: that it needs, of the extra "models".
    """

    name: str
    spec: str
    help: str
    load: str
    runs_code: bool = True
    library: str = ""


_HERE = "aosa_fast.models"
PROGRAM = "program"  # files, told by their suffix
MOTIONS = "six synthetic motions only: left, right, up, down, clockwise and counter-clockwise"  # the demos' classes
FAMILIES = Registry(
    "model",
    (
        ModelFamily(
            "demo",
            "demo",
            f"The embedded convolutional network. It knows {MOTIONS}.",
            "aosa_fast.demo.classifiers:load_demo",
            False,
        ),
        ModelFamily(
            "demo-attention",
            "demo-attention",
            f"The embedded network with attention. It knows {MOTIONS}.",
            "aosa_fast.demo.classifiers:load_attention",
            False,
        ),
        ModelFamily(
            "demo-r2plus1d",
            "demo-r2plus1d",
            f"The embedded R(2+1)D, trained on whole clips only. It knows {MOTIONS}.",
            "aosa_fast.demo.classifiers:load_r2plus1d",
            False,
        ),
        ModelFamily(
            "demo-scene",
            "demo-scene:KIND",
            "Networks for rendered:kind=KIND, in which what moves most is not the answer: colour, order, still.",
            "aosa_fast.demo.classifiers:load_scene",
            False,
        ),
        ModelFamily(
            "demo-planted",
            "demo-planted:SEED",
            "Networks that learned planted shortcuts (:attention has attention), and :none, which learned none.",
            "aosa_fast.demo.classifiers:load_planted",
            False,
        ),
        ModelFamily(
            "torchvision",
            "torchvision:NAME[:WEIGHTS[:NAMES]]",
            "torchvision's video models, such as torchvision:r3d_18.",
            f"{_HERE}.torchvision_models:load_torchvision",
            False,
            "torchvision",
        ),
        ModelFamily(
            "hf",
            "hf:MODEL",
            "VideoMAE, TimeSformer, ViViT or V-JEPA 2: an id of Hugging Face, or a folder.",
            f"{_HERE}.huggingface:load_huggingface",
            False,
            "transformers",
        ),
        ModelFamily(
            "pytorchvideo",
            "pytorchvideo:NAME[:WEIGHTS[:NAMES]]",
            "Models of PyTorchVideo, such as SlowFast and X3D.",
            f"{_HERE}.pytorchvideo_models:load_pytorchvideo",
            False,
            "pytorchvideo",
        ),
        ModelFamily(
            "resnet3d",
            "resnet3d:NAME:FILE[:NAMES]",
            "Checkpoints of the 3D-ResNets tools, as in the paper.",
            f"{_HERE}.resnet3d:load_resnet3d",
            False,
        ),
        ModelFamily(
            "python",
            "python:PACKAGE.MODULE:FUNCTION",
            "What a user's function without arguments returns: a torch.nn.Module or a Classifier.",
            f"{_HERE}.loading:load_python",
        ),
        ModelFamily(
            PROGRAM,
            "FILE.pt2 of torch.export, FILE.pt of TorchScript",
            "A program, beside which FILE.json (or FILE.pt2.json) may describe its preprocessing.",
            f"{_HERE}.exported:load_exported",
        ),
    ),
    "aosa_fast.models",
)


def list_models() -> list[str]:
    """How models are named, ours and those of other packages: the specs that `aosa_fast.models.load` takes."""
    return FAMILIES.specs()


def model_help() -> str:
    """The specs of our own families, for the command line's help and for messages."""
    return or_list([family.spec for family in FAMILIES.own()])
