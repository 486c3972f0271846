"""The floor under a latency, from the processor's peaks: an estimate wherever it stands."""

from __future__ import annotations

from harness.records import Floor, RunRecord
from reports.elements import Table, table
from reports.format import NONE, milliseconds, significant, size

LEAST_MS = 0.01  # launching one call takes longer, on every runtime: a smaller floor tells nothing of a latency


def meaningful(floor: Floor | None) -> Floor | None:
    """A floor that tells something; None where there is none, or it lies below the cost of launching a call."""
    return None if floor is None or floor.ms < LEAST_MS else floor


def beside(floor: Floor | None, p50_ms: float | None) -> tuple[str, str]:
    """The cells of a floor and of how many times it a median is; None: there is no median."""
    if (floor := meaningful(floor)) is None:
        return NONE, NONE
    return significant(floor.ms), NONE if p50_ms is None else f"{significant(p50_ms / floor.ms)} ×"


def floors(record: RunRecord) -> Table:
    """Every engine's floor and what it rests on."""
    return table(
        "Floor under the latency (estimate)",
        (
            "Engine",
            "No call is faster than",
            "Arithmetic",
            "Peak (10⁹ operations/s)",
            "Memory (GB/s)",
            "Cache",
            "Where the peaks come from",
        ),
        [
            (
                engine.name,
                "; ".join(f"batch {batch}: {_said(floor)}" for batch, floor in roof.floors.items()),
                roof.arithmetic,
                significant(roof.operations_per_s / 1e9),
                significant(roof.bytes_per_s / 1e9 if roof.bytes_per_s else None),
                size(roof.cache_bytes),
                roof.source,
            )
            for engine in record.engines
            if (roof := engine.roofline) is not None
        ],
        numbers=(3, 4, 5),
        note="Roofline (Williams et al. 2009): two operations per multiply-accumulate of convolutions and linear layers, at the fastest "
        "arithmetic that the precision allows; or weights, inputs and outputs moved once, less what the caches hold; whichever takes "
        "longer. It errs downwards and foretells no latency: launching kernels, activations and everything else come on top. "
        f"Below {milliseconds(LEAST_MS)}, which launching a call alone takes, it tells nothing, and stands beside no latency.",
        fold=True,
    )


def _said(floor: Floor) -> str:
    if meaningful(floor) is None:
        return f"below {milliseconds(LEAST_MS)}"
    return milliseconds(floor.ms) + (" (memory)" if floor.bound == "memory" else "")
