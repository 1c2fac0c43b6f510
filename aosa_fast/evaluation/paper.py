"""What the paper reports, and the settings that it reports it for (paper IV; method: section 10)."""

from __future__ import annotations

from dataclasses import dataclass

Number = float | None


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        number: as the paper counts.
        title: what it shows.
        data: the paper's data set.
        models: the columns.
        quantities: what each cell holds: "deletion", "insertion", "overall", "spt" or "seconds".
        values: by method, as `parse_entries` reads it, for each model the quantities in their order; None where the
            paper has none.
        stride: s, pixels, by model.
        box: side, pixels, by model.
        side: of the model's input, pixels, by model: other inputs scale stride and box with it.
        note: what a reader must know.
    """

    number: str
    title: str
    data: str
    models: tuple[str, ...]
    quantities: tuple[str, ...]
    values: dict[str, tuple[tuple[Number, ...], ...]]
    stride: tuple[int, ...] = (8, 8)
    box: tuple[int, ...] = (16, 16)
    side: tuple[int, ...] = (112, 112)
    note: str = ""


_RESNETS = ("R3D", "R(2+1)D")
_CAUSAL = ("deletion", "insertion", "overall")

TABLES = {table.number: table for table in (
    Table(
        "I", "Deletion, insertion and over-all", "UCF101", _RESNETS, _CAUSAL,
        {
            "grad-cam": ((0.206, 0.632, 0.426), (0.245, 0.674, 0.429)),
            "osa": ((0.160, 0.585, 0.424), (0.225, 0.644, 0.419)),
            "smoothgrad": ((0.058, 0.357, 0.299), (0.056, 0.275, 0.219)),
            "step": ((0.146, 0.560, 0.414), (0.150, 0.607, 0.457)),
            "aosa": ((0.158, 0.646, 0.489), (0.182, 0.688, 0.507)),
            "aosa-approx": ((0.193, 0.621, 0.428), (0.198, 0.658, 0.460)),
        },
    ),
    Table(
        "II", "Deletion, insertion and over-all", "Kinetics-700", _RESNETS, _CAUSAL,
        {
            "grad-cam": ((0.088, 0.305, 0.217), (0.119, 0.353, 0.235)),
            "osa": ((0.048, 0.310, 0.261), (0.076, 0.378, 0.301)),
            "smoothgrad": ((0.019, 0.141, 0.123), (0.020, 0.112, 0.092)),
            "step": ((0.058, 0.275, 0.217), (0.065, 0.324, 0.259)),
            "aosa": ((0.045, 0.326, 0.282), (0.057, 0.369, 0.312)),
            "aosa-approx": ((0.066, 0.301, 0.234), (0.073, 0.340, 0.267)),
        },
        stride=(4, 4), box=(8, 8),
    ),
    Table(
        "III", "Deletion, insertion and over-all", "Kinetics-400", ("SlowFast", "TimeSformer"), _CAUSAL,
        {
            "grad-cam": ((0.146, 0.186, 0.040), (0.162, 0.233, 0.071)),
            "osa": ((0.167, 0.214, 0.047), (0.260, 0.263, 0.003)),
            "smoothgrad": ((0.041, 0.101, 0.060), (0.109, 0.184, 0.075)),
            "step": ((0.237, 0.256, 0.018), (0.237, 0.256, 0.018)),
            "attention-rollout": ((None, None, None), (0.186, 0.229, 0.043)),
            "aosa": ((0.121, 0.197, 0.076), (0.150, 0.218, 0.069)),
            "aosa-approx": ((0.119, 0.205, 0.086), (0.141, 0.213, 0.072)),
        },
        stride=(10, 8), box=(20, 16), side=(256, 224),
        note="The paper prints the same STEP row for both models, a copying error by all appearances. On TimeSformer "
        "its SmoothGrad (0.075) beats AOSA-approx (0.072).",
    ),
    Table(
        "IV", "S-PT, the spatial pointing game", "UCF101-24", _RESNETS, ("spt",),
        {
            "grad-cam": ((0.651,), (0.658,)),
            "osa": ((0.522,), (0.597,)),
            "smoothgrad": ((0.676,), (0.618,)),
            "step": ((0.672,), (0.667,)),
            "aosa": ((0.682,), (0.747,)),
            "aosa-approx": ((0.763,), (0.789,)),
        },
    ),
    Table(
        "V", "Seconds per map", "UCF101", ("R3D",), ("seconds",),
        {
            "grad-cam": ((0.021,),),
            "osa": ((4.759,),),
            "smoothgrad": ((2.256,),),
            "step": ((18.706,),),
            "aosa": ((0.728,),),
            "aosa-approx": ((0.302,),),
            "aosa:half-stride": ((2.548,),),
            "aosa-approx:half-stride": ((1.028,),),
        },
        note="The paper does not name its GPU. half-stride: anchors every 4 pixels at 112 (s = 4) instead of every 8.",
    ),
    Table(
        "VI", "Over-all of single and of integrated masks", "UCF101", _RESNETS, ("overall",),
        {"aosa:partners=0": ((0.482,), (0.488,)), "aosa": ((0.489,), (0.507,))},
        note="The paper has this on Kinetics too: R3D 0.281 and 0.282, R(2+1)D 0.311 and 0.312 (Kinetics-700), "
        "SlowFast 0.072 and 0.076, TimeSformer 0.055 and 0.069 (Kinetics-400).",
    ),
    Table(
        "VII", "AOSA-approx with and without conditional fill and ReLU", "UCF101", _RESNETS,
        ("deletion", "insertion", "spt"),
        {
            "aosa-approx:fill=mean:relu=none": ((0.244, 0.548, 0.489), (0.277, 0.564, 0.485)),
            "aosa-approx:fill=mean": ((0.224, 0.566, 0.547), (0.234, 0.605, 0.607)),
            "aosa-approx:relu=none": ((0.258, 0.576, 0.622), (0.295, 0.594, 0.611)),
            "aosa-approx": ((0.193, 0.621, 0.763), (0.198, 0.658, 0.789)),
        },
    ),
)}  # fmt: skip
