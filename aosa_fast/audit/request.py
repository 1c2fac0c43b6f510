"""What a user asks for: which clips are audited, with which model, and who does the work."""

from __future__ import annotations

from dataclasses import dataclass

from aosa_fast.addresses import Place
from aosa_fast.audit.settings import AuditSettings, setting
from aosa_fast.errors import InputError

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class AuditRequest:
    """What is audited, how, and with what; `aosa-fast audit --help` says what the other fields mean.

    Attributes:
        data: as in `aosa_fast.data.open_dataset`, with annotations and split.
        model: as in `aosa_fast.models.load`.
        out: folder for the rows, or its address; a later run goes on there.
        settings: of the audit.
        device: "auto", "cpu", "cuda", "cuda:1", ...; with the local engine.
        shard: (i, n): of n parts of the data, the i-th, from 1 on.
        command: for the record.
    """

    data: str
    model: str
    out: Place
    settings: AuditSettings
    annotations: str | None = setting(
        None, "A file with boxes (pyannot.pkl), labels or splits of the data, where they are not in it.", "data"
    )
    split: str | None = setting(None, "Which split of the data is audited, such as test01.", "data")
    limit: int | None = setting(None, "Audit at most this many clips, spread evenly over the classes.", "data", min=1)
    per_class: int | None = setting(None, "Audit at most this many clips of each class.", "data", min=1)
    device: str = "auto"
    gpus: int = setting(
        0, "Explain on this many GPUs, with a process for each; 0: with one process, on --device.", "run", min=0
    )
    readers: int = setting(0, "How many processes read clips, for each that explains; 0: one per core.", "run", min=0)
    threads: int = setting(
        0, "How many threads a process that explains may use; 0: as many as torch chooses.", "run", min=0
    )
    engine: str = setting(
        "local",
        "What does the work: local, processes of this machine; ray, a Ray cluster.",
        "run",
        metavar="|".join(ENGINES),
    )
    address: str | None = setting(
        None, "The Ray cluster to use: HOST:PORT, or auto. Default: one is started on this machine.", "run"
    )
    actors: int = setting(0, "How many Ray actors explain; 0: one per GPU, or one on a machine without.", "run", min=0)
    shard: tuple[int, int] = (1, 1)
    retry: bool = setting(False, "Try the clips again that failed in an earlier run.", "data")
    command: str = ""

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine must be one of {', '.join(ENGINES)}; got {self.engine}")
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"shard must be i/n with i within 1..n; got {self.shard[0]}/{self.shard[1]}")
        for name in ("gpus", "readers", "threads", "actors"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0; got {getattr(self, name)}")
        if self.engine == "local" and (self.address is not None or self.actors):
            raise InputError("address and actors must be left out unless engine is ray")
