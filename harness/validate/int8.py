"""How much of the robustness an INT8 engine keeps, and how much of an attack transfers to it."""

from __future__ import annotations

from harness.records import RunRecord
from harness.validate.check import Check, Finding
from harness.validate.ground import EPS, ROBUST, Ground

FLAVOUR = "ort-int8-precise"  # the same answers on every CPU


def bench(ground: Ground) -> RunRecord:
    """The robust network as an INT8 engine, attacked along its own graph too."""
    return ground.run("int8", model=ROBUST, engines=[FLAVOUR], attacks=["pgd"], sources=("S1", "S3"), samples=ground.samples, batches=())


def answer(ground: Ground) -> Finding:
    """Relative robustness in the worst case, and the transfer rate of the set made on the twin."""
    record = bench(ground)
    (claim,) = record.claims
    if claim.relative_robustness is None or claim.relative_ci95 is None:
        return Finding("not run", "–", f"{claim.verdict}: {claim.reason}")
    low, high = claim.relative_ci95
    rates = [t.transfer_rate for t in record.transfer if t.source == "S1" and t.eps_exact == f"{EPS}" and t.transfer_rate is not None]
    transferred = f"; transfer of the twin's PGD set {100 * rates[0]:.1f} %" if rates else ""
    return Finding(
        "not comparable",
        f"relative robustness {100 * claim.relative_robustness:.1f} % [{100 * low:.1f}, {100 * high:.1f}]{transferred}; n = {claim.n}",
        "another attack and other networks: the figures stand side by side",
    )


CHECK = Check(
    "int8",
    "networks of 8 bits keep nearly all of their robustness, while transfer to them varies",
    "relative robustness 98.6 to 99.7 %, transfer 52.0 to 98.9 %",
    "Duncan et al., Relative Robustness of Quantized Neural Networks, 2020",
    answer,
)
