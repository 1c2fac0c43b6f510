"""What holds for every clip of an audit, and what the processes of a run tell each other at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.methods.registry import METHODS

if TYPE_CHECKING:
    from aosa_fast.models.preprocess import Preprocessing

TARGETS = ("pred", "true", "both")
MAPS = ("keep", "summary")
# Where the user does not choose. The conditional fill hides nothing that is uniform, such as a tinted border or a frame
# that is brighter; probabilities of clips that a model is sure of have no gradient; without ReLU noise cancels over the
# channels, so that cues show which get little of the map; and the exact backward pass of LayerNorm takes from a field
# what a token has of the scale (models without such layers get the same, bit for bit).
FILL, SCORE, RELU, BACKWARD = "mean", "logit", "none", "libra"


def setting(default: Any, help: str, panel: str, **option: Any) -> Any:
    """A field of which the command line makes an option: see `aosa_fast.cli.options.with_field_options`."""
    return field(default=default, metadata={"help": help, "panel": panel, **option})


@dataclass(frozen=True)
class AuditSettings:
    """What every row depends on, and how the work is done; the texts are also those of `aosa-fast audit --help`.

    Attributes:
        config: how clips are explained; a method that follows the motion. Its stride and box give way to those here.
        check_tubes: on how many tubes of each clip first-order scores are held against exact ones.
        max_restarts: so many processes may die in a row, without one clip done, before the run gives up.
    """

    target: str = setting(
        "pred",
        "Whose map is measured: pred, that of the model's best class; true, the label's; both: the best class's, and "
        "beside it the label's where the two differ.",
        "what",
        metavar="|".join(TARGETS),
    )
    maps: str = setting(
        "keep",
        "What a row holds: keep, its measures and the map, in some 12 kB; summary, its measures only.",
        "out",
        metavar="|".join(MAPS),
    )
    dense: bool = setting(False, "Keep every voxel of the maps as well, in a zarr store; needs zarr.", "out")
    config: Config = field(default_factory=lambda: Config(fill=FILL, score=SCORE, relu=RELU, backward=BACKWARD))
    stride: int | None = setting(
        None, "Distance of the anchors in pixels. Default: 8 for a model that sees 112 pixels, scaled.", "how", min=1
    )
    box: int | tuple[int, int] | None = setting(
        None,
        "Side of the occluding box in pixels, or its height and width. Default: 16 for a model that sees 112 pixels, "
        "scaled.",
        "how",
        metavar="SIDE|HxW",
        kind=str | None,
    )
    check_share: float = setting(
        0.01,
        "The share of the clips, chosen by their names, whose first-order scores are held against exact ones.",
        "how",
        min=0,
        max=1,
    )
    check_tubes: int = 8
    static_share: float = setting(
        0.1,
        "The share of the clips, chosen by their names, of which one repeated frame is shown to the model as well. A "
        "forward of each, half of what its map takes.",
        "how",
        min=0,
        max=1,
    )
    batch: int = setting(8, "How many clips are explained together.", "how", min=1)
    seed: int = setting(0, "The seed of the choice of clips, and of all else that is random.", "data", min=0)
    clip_seconds: float = setting(
        120.0, "How many seconds one clip may take, before the process that works on it is ended.", "run"
    )
    max_restarts: int = 8

    def __post_init__(self) -> None:
        for name, value, choices in (("target", self.target, TARGETS), ("maps", self.maps, MAPS)):
            if value not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}; got {value}")
        if not (self.config.record.has_tubes and self.config.record.knows_model):
            names = [method.name for method in METHODS.values() if method.has_tubes and method.knows_model]
            raise InputError(f"method must be one of {', '.join(names)} for an audit; got {self.config.method}")
        if self.config.compat:
            raise InputError(f"compat must be unset for an audit; got {self.config.compat}")
        for name in ("check_share", "static_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be within 0..1; got {getattr(self, name)}")
        if not self.clip_seconds > 0:
            raise InputError(f"clip_seconds must be above 0; got {self.clip_seconds}")
        for name in ("check_tubes", "batch", "max_restarts"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1; got {getattr(self, name)}")

    @property
    def shows_label(self) -> bool:
        """Whether the label's map is wanted."""
        return self.target in ("true", "both")

    def identity(self, config: Config) -> dict[str, Any]:
        """What the rows depend on, with the config in use, in plain types; time limits and the like are left out."""
        own = ("target", "maps", "dense", "check_share", "check_tubes", "batch", "seed")
        return {**{name: getattr(self, name) for name in own}, "config": config.as_dict()}


@dataclass(frozen=True)
class Setup:
    """What a process needs to begin.

    Attributes:
        model: as in `aosa_fast.models.load`; loaded in the process that explains.
        settings: of the audit.
        class_names: of the data, by label; None if its labels are the model's own indices.
        used_labels: the data's labels that occur.
        data: the data set's name, for messages.
        device: where the model is put: "cpu", "cuda:0", ... or "auto".
        threads: of torch in the process that explains; 0 leaves them as torch chooses.
        download: whether weights of the model that the machine lacks are fetched.
    """

    model: str
    settings: AuditSettings
    class_names: tuple[str, ...] | None
    used_labels: tuple[int, ...]
    data: str
    device: str = "auto"
    threads: int = 0
    download: bool = False


@dataclass(frozen=True)
class Ready:
    """The ready message of a process that explains: what it says once its model is loaded.

    Attributes:
        preprocessing: from frames to the model's input.
        class_names: the model's, by index, or None.
        labels: the model's index of each of the data's labels that it knows.
        weights: hash of the weights, or None.
        config: the config in use, with the stride and the box for this model.
        device: where the model is.
        versions: of the libraries that the values depend on.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    labels: dict[int, int]
    weights: str | None
    config: Config
    device: str
    versions: dict[str, str]
