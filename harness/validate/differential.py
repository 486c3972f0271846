"""Images that fool the engine and leave the original right."""

from __future__ import annotations

import re

from harness.audit.statistics import share
from harness.validate.check import Check, Finding
from harness.validate.ground import EPS, ROBUST, Ground, shown
from harness.validate.int8 import FLAVOUR

PUBLISHED = (1.9, 4.2)


def answer(ground: Ground) -> Finding:
    """Share of images on which the engine falls while the twin stays right: under DIVA, and under PGD along the engine's own graph."""
    record = ground.run(
        "differential", model=ROBUST, engines=[FLAVOUR], attacks=["pgd"], sources=("S3", "S5"), samples=ground.samples,
        batches=(), exhaustive=True,
    )  # fmt: skip
    at_full = [t for t in record.transfer if t.eps_exact == str(EPS) and t.engine == FLAVOUR]
    counts = {re.sub(r"-\d+$", "", t.attack): (t.flips.twin_only, t.n) for t in at_full}  # without steps; `diva-reverse` is another one
    if not {"diva", "pgd"} <= counts.keys():
        return Finding("not run", "–", f"the run has no such sets: {', '.join(sorted(counts)) or 'none at all'}")
    diva, pgd = share(*counts["diva"]), share(*counts["pgd"])
    ratio = diva.accuracy / pgd.accuracy if pgd.accuracy else float("inf")
    times = f"{ratio:.1f} times" if pgd.accuracy else "PGD finds none"
    ours = f"DIVA {shown(diva)}; PGD {shown(pgd)}: {times}"
    if diva.ci95[0] > pgd.ci95[1]:
        inside = PUBLISHED[0] <= ratio <= PUBLISHED[1]
        return Finding("confirmed", ours, f"more often; {'within' if inside else 'outside of'} the published range")
    if diva.ci95[1] < pgd.ci95[0]:
        return Finding("refuted", ours, "less often")
    return Finding("undecided", ours, "the intervals overlap")


CHECK = Check(
    "differential",
    "a differential attack fools the adapted network while the original stays right more often than PGD does",
    "1.9 to 4.2 times as often",
    "Hao et al., A Tale of Two Models (DIVA), MLSys 2022",
    answer,
)
