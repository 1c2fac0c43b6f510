"""The 3-D ResNets of Hara et al., with the weights that their tools save: the networks of AOSA's paper.

R3D: Hara, Kataoka, Satoh: Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet? CVPR 2018.
R(2+1)D: Tran et al.: A Closer Look at Spatiotemporal Convolutions for Action Recognition. CVPR 2018.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.models.checkpoints import count_classes, network_with, parts_of
from aosa_fast.models.classifier import KINETICS, Classifier, read_class_names

# Blocks per stage, and whether they are bottlenecks of three convolutions, by depth.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
NAMES = {f"{kind}{depth}": (depth, kind == "r2plus1d") for kind in ("r3d", "r2plus1d") for depth in DEPTHS}
EXPANSION = 4  # channels that leave a bottleneck, by those inside it
# How these tools test: 16 frames one after the other (sample_t_stride 1), the short side at 112 pixels, its centre.
PREPROCESSING = replace(KINETICS, stride=1)
SOURCE = "the paper's are those of https://github.com/kenshohara/3D-ResNets-PyTorch, whose README links to them"


class ResNet3D(nn.Module):
    """A 3-D ResNet, its modules named as in the checkpoints: `layer4` is the last stage, `fc` the classifier.

    R3D has 3x3x3 convolutions. R(2+1)D has pairs of a spatial and a temporal one in their place, `conv2_s` and
    `conv2_t`, with as many channels between them as keep the number of weights.

    Args:
        depth: one of `DEPTHS`.
        factorised: R(2+1)D rather than R3D.
        n_classes: of the classifier.
    """

    def __init__(self, depth: int, factorised: bool, n_classes: int) -> None:
        super().__init__()
        stages, bottleneck = DEPTHS[depth]
        self.stem = _add_convolution(self, 1, 3, 64, 7, (1, 2), factorised)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool3d(kernel_size=3, stride=2, padding=1)
        inputs = 64
        for i, count in enumerate(stages):
            inside = 64 * 2**i
            outputs = inside * EXPANSION if bottleneck else inside
            blocks = []
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(Block(inputs, inside, outputs, stride, bottleneck, factorised))
                inputs = outputs
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(inputs, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, video: Tensor) -> Tensor:
        """Logits (B, n_classes) float32 of a video (B, 3, T, H, W) float32, of any size."""
        x = self.maxpool(self.relu(_convolve(self, self.stem, video)))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


class Block(nn.Module):
    """A residual block: two 3x3x3 convolutions, or one between two 1x1x1 ones."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int, bottleneck: bool, factorised: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()  # not in place: hooks may want what the ReLU sees
        if bottleneck:
            sizes = [(inputs, inside, 1, 1), (inside, inside, 3, stride), (inside, outputs, 1, 1)]
        else:
            sizes = [(inputs, inside, 3, stride), (inside, outputs, 3, 1)]
        self.steps: list[tuple[str, str]] = []
        for number, (n_in, n_out, side, step) in enumerate(sizes, 1):
            self.steps += _add_convolution(self, number, n_in, n_out, side, (step, step), factorised and side > 1)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv3d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C', T', H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(_convolve(self, self.steps, x) + shortcut)
        return y


def _add_convolution(
    module: nn.Module, number: int, inputs: int, outputs: int, side: int, stride: tuple[int, int], factorised: bool
) -> list[tuple[str, str]]:
    """Adds convolution `number` and its normalisation; the stride is (time, space).

    Returns the names of what was added, in the order of use.
    """
    time, space = stride
    if factorised:
        # Tran et al., section 3.5: the channels between, for as many weights as the 3-D kernel has.
        between = (side**3 * inputs * outputs) // (side**2 * inputs + side * outputs)
        parts = [
            ("_s", inputs, between, (1, side, side), (1, space, space)),
            ("_t", between, outputs, (side, 1, 1), (time, 1, 1)),
        ]
    else:
        parts = [("", inputs, outputs, (side, side, side), (time, space, space))]
    names = []
    for suffix, n_in, n_out, size, step in parts:
        padding = (size[0] // 2, size[1] // 2, size[2] // 2)
        names.append((f"conv{number}{suffix}", f"bn{number}{suffix}"))
        module.add_module(names[-1][0], nn.Conv3d(n_in, n_out, size, stride=step, padding=padding, bias=False))
        module.add_module(names[-1][1], nn.BatchNorm3d(n_out))
    return names


def _convolve(module: nn.Module, names: list[tuple[str, str]], x: Tensor) -> Tensor:
    """Convolutions and their normalisations one after the other, with a ReLU between two."""
    for i, (convolution, normalisation) in enumerate(names):
        if i:
            x = nn.functional.relu(x)
        x = getattr(module, normalisation)(getattr(module, convolution)(x))
    return x


def load_resnet3d(spec: str, rest: str) -> Classifier:
    """Loads a 3-D ResNet.

    Args:
        rest: NAME:FILE[:NAMES], NAME being one of `NAMES`; FILE a checkpoint of the 3D-ResNets tools, or "random" for
            random weights of 400 classes; NAMES as in `read_class_names`, which reads these tools' annotation file too.
            The files of 2017 (resnet-50-kinetics.pth and the like) expect pixels in [0, 255] less a mean: this
            preprocessing is not theirs.

    Raises:
        InputError: an unknown NAME, no FILE, or one that does not fit.
    """
    name, file, names = parts_of(rest)
    if name not in NAMES:
        raise InputError(f"model={spec} must name one of {', '.join(NAMES)}; got {name}")
    rule = f"model={spec} must have its weights in a file, {name}:FILE; {SOURCE}"
    network = network_with(file, lambda n_classes: ResNet3D(*NAMES[name], n_classes), rule)
    return Classifier(network, PREPROCESSING, read_class_names(names, count_classes(network)) if names else None)
