from numpy import float32, int32, uint8
from numpy.typing import NDArray

def normalize_frames(
    frames: NDArray[uint8], mean: NDArray[float32], std: NDArray[float32], video: NDArray[float32], threads: int
) -> None: ...
def grey_frames(frames: NDArray[uint8], grey: NDArray[uint8], threads: int) -> None: ...
def conditional_mean(video: NDArray[float32], mean: NDArray[float32], radius: int, threads: int) -> None: ...
def field(
    video: NDArray[float32],
    grad: NDArray[float32],
    fill: NDArray[float32] | None,
    out: NDArray[float32],
    radius: int,
    relu: int,
    threads: int,
) -> None: ...
def tube_scores(
    field: NDArray[float32],
    boxes: NDArray[int32],
    members: NDArray[int32],
    scores: NDArray[float32],
    threads: int,
) -> None: ...
def saliency_map(
    scores: NDArray[float32],
    boxes: NDArray[int32],
    members: NDArray[int32],
    saliency: NDArray[float32],
    coverage: NDArray[int32],
    threads: int,
) -> None: ...
def tube_overlaps(
    weights: NDArray[float32],
    boxes: NDArray[int32],
    members: NDArray[int32],
    overlaps: NDArray[float32],
    cell: int,
    threads: int,
) -> None: ...
def occlude(
    video: NDArray[uint8],
    fill: NDArray[uint8],
    boxes: NDArray[int32],
    members: NDArray[int32],
    clips: NDArray[int32],
    out: NDArray[uint8],
    frames: int,
    threads: int,
) -> None: ...
def occlude_sampled(
    video: NDArray[float32],
    mean: NDArray[float32],
    boxes: NDArray[int32],
    members: NDArray[int32],
    clips: NDArray[int32],
    noise: NDArray[float32],
    out: NDArray[float32],
    radius: int,
    threads: int,
) -> None: ...
def farneback(
    frames: NDArray[uint8],
    flow: NDArray[float32],
    levels: list[tuple[tuple[NDArray[int32], NDArray[float32]], ...]],
    weights: NDArray[float32],
    inverse: NDArray[float32],
    winsize: int,
    iterations: int,
    threads: int,
) -> None: ...
def simd_level() -> str: ...
def set_simd_level(level: str) -> None: ...
