"""What is measured: suites and their parts, one record each; free of torch, so that the command lists them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aosa_fast.errors import InputError
from aosa_fast.libraries import is_installed
from aosa_fast.registry import Registry

_HERE = "aosa_fast.bench"
_OPERATORS = f"{_HERE}.check:check_operators"
_AUDIT = ("pyarrow", "sklearn", "jinja2", "skimage", "torchvision")


@dataclass(frozen=True)
class Part:
    """Figures that are made together.

    Attributes:
        name: as rows on record have it; no two parts have the same.
        help: what is measured, for listings.
        run: "MODULE:FUNCTION" of a `Report` and of whether it shall be quick; "": there is none for the CPU.
        cuda: the same of a `Report` and a `gpu.bench.Bench`; "": there is none for a GPU.
        check: "MODULE:FUNCTION" of whether it shall be quick, which raises `MismatchError` where an answer is wrong;
            before any part that is asked for is timed.
        libraries: of the extra "bench", which it needs.
    """

    name: str
    help: str
    run: str = ""
    cuda: str = ""
    check: str = ""
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Parts that answer one question."""

    name: str
    help: str
    parts: tuple[Part, ...]

    @property
    def spec(self) -> str:
        """As `--suite` takes it."""
        return f"{self.name}[:{'|'.join(part.name for part in self.parts)}]"


SUITES = Registry(
    "suite",
    (
        Suite(
            "peers",
            "Our methods beside other packages' and the authors' dense masks, on the same clip and network.",
            (
                Part(
                    "peers",
                    "each in its best configuration, over one forward and backward",
                    f"{_HERE}.peers:peers",
                    check=f"{_HERE}.peers:check_answers",
                    libraries=("captum", "torchcam"),
                ),
            ),
        ),
        Suite(
            "table5",
            "Whole explanations of R3D-50, as in the paper's Table V, beside what the network itself costs.",
            (
                Part(
                    "approx",
                    "AOSA-approx over one forward and backward, and its stages",
                    f"{_HERE}.network:approx",
                    f"{_HERE}.gpu.pipeline:approx",
                    _OPERATORS,
                ),
                Part(
                    "exact",
                    "exact AOSA beside the bare model's best batch",
                    f"{_HERE}.network:exact",
                    f"{_HERE}.gpu.pipeline:exact",
                    _OPERATORS,
                ),
                Part("dual", "AOSA-dual over its passes of the bare model", f"{_HERE}.network:dual", check=_OPERATORS),
                Part(
                    "memory",
                    "peak memory of AOSA-approx beyond the model's",
                    f"{_HERE}.memory:memory",
                    f"{_HERE}.gpu.pipeline:memory",
                    _OPERATORS,
                ),
            ),
        ),
        Suite(
            "stages",
            "Every operator and stage by itself.",
            (
                Part("copy", "what a GPU's memory gives", cuda=f"{_HERE}.gpu.operators:copy"),
                Part(
                    "operators",
                    "each operator alone",
                    f"{_HERE}.operators:single_operators",
                    f"{_HERE}.gpu.operators:operators",
                    _OPERATORS,
                ),
                Part("together", "field, scores and map; box sizes", f"{_HERE}.operators:together", check=_OPERATORS),
                Part("partners", "partners against NumPy", f"{_HERE}.operators:partners", check=_OPERATORS),
                Part("yardstick", "scores and map by dense masks", f"{_HERE}.operators:yardstick", check=_OPERATORS),
                Part("estimate", "what a batch of AOSA within a time costs", f"{_HERE}.budget:estimate"),
                Part(
                    "flow",
                    "optical flow, over OpenCV's",
                    f"{_HERE}.flows:flows",
                    f"{_HERE}.gpu.operators:flow",
                    _OPERATORS,
                ),
                Part(
                    "instructions", "instructions of the C++ and Numba operators", f"{_HERE}.instructions:instructions"
                ),
                Part("stages", "the stages of AOSA-approx on a GPU", cuda=f"{_HERE}.gpu.pipeline:stages"),
            ),
        ),
        Suite(
            "scaling",
            "Time and memory against sizes, with the exponents that were fitted beside those expected.",
            (Part("scaling", "anchors, frames, pixels, partners, box, batch, threads", f"{_HERE}.scaling:scaling"),),
        ),
        Suite(
            "latency",
            "Single calls: warm explainers, the first call, a call within a time, streams, the service.",
            (
                Part(
                    "warm",
                    "a warm explainer beside the plain model",
                    f"{_HERE}.warm:warm",
                    "",
                    _OPERATORS,
                    ("captum", "skimage"),
                ),
                Part(
                    "batches",
                    "clips together beside batches of the bare model",
                    f"{_HERE}.warm:batches",
                    libraries=("torchvision",),
                ),
                Part(
                    "stream",
                    "a stream beside an explainer, and too fast",
                    f"{_HERE}.stream:stream",
                    libraries=("skimage",),
                ),
                Part(
                    "stream_soak",
                    "memory of a stream over twenty thousand frames, and over a minute of ten times the load",
                    f"{_HERE}.stream_soak:stream_soak",
                    libraries=("skimage",),
                ),
                Part(
                    "serve",
                    "the service under load, and at twice what it can carry",
                    f"{_HERE}.serve:serve",
                    libraries=("fastapi", "uvicorn", "prometheus_client", "skimage", "torchvision"),
                ),
                Part(
                    "overshoot",
                    "how far a call goes beyond its time",
                    f"{_HERE}.budget:overshoot",
                    libraries=("skimage",),
                ),
                Part("first_call", "the first call of a process", f"{_HERE}.first_call:first_call"),
            ),
        ),
        Suite(
            "audit",
            "Whole audits: clips a second, reading, memory over ten thousand clips, and what rows cost. Linux only.",
            (
                Part(
                    "throughput",
                    "audits beside the bare network",
                    f"{_HERE}.audit.throughput:throughput",
                    libraries=_AUDIT,
                ),
                Part("reading", "what it takes to read a video", f"{_HERE}.audit.reading:reading", libraries=_AUDIT),
                Part("soak", "memory over ten thousand clips", f"{_HERE}.audit.soak:soak", libraries=_AUDIT),
                Part("rows", "rows on disk, and reports of them", f"{_HERE}.audit.stored_rows:rows", libraries=_AUDIT),
            ),
        ),
    ),
)


def chosen_parts(specs: Sequence[str], cuda: bool) -> list[Part]:
    """The parts of these suites, NAME or NAME:PART each, that there are for the device; of all suites if none is named.

    Raises:
        InputError: no such suite or part, there is nothing of it for this device, or a library is missing.
    """
    found: list[Part] = []
    for spec in specs or list(SUITES):
        name, _, wanted = spec.partition(":")
        suite = SUITES.find(name)
        parts = Registry(f"suite={name}:", suite.parts)
        found += [parts.find(wanted)] if wanted else suite.parts
    able = [part for part in found if (part.cuda if cuda else part.run)]
    if not able:
        raise InputError(
            f"suite must have something to measure on {'a GPU' if cuda else 'the CPU'}; got {', '.join(specs)}"
        )
    check_installed(able)
    return list(dict.fromkeys(able))


def check_installed(parts: Sequence[Part]) -> None:
    """Raises InputError where a library that one of these needs is missing."""
    for part in parts:
        for library in part.libraries:
            if not is_installed(library):
                raise InputError(
                    f'the part {part.name} must have {library}; it is missing: pip install "aosa-fast[bench]"'
                )


def part_named(name: str) -> Part | None:
    """The part of rows on record; None: there is none of that name any more."""
    return next((part for suite in SUITES.values() for part in suite.parts if part.name == name), None)
