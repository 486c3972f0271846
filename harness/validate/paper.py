"""The benchmarking paper's tables 3 to 8, at the size of this project's networks."""

from __future__ import annotations

import shlex

from harness.reproduce.run import ATTACKS
from harness.validate.check import Check, Finding
from harness.validate.ground import Ground
from reports.reproduce import COLUMNS

WIDTH = 14.0  # points to each side: a 95 % interval of a share near one half from 50 images
WHOLE = "some 20 minutes on two cores"


def answer(ground: Ground) -> Finding:
    """How many of the paper's L-inf figures our own lie within 14 points of; it takes what `harness reproduce` has done."""
    work = ground.reproduction()
    undone = sum(len(ATTACKS) - len(work.known(network)) for network in work.networks)
    if undone:
        where = ["--data", ground.data, "--cache", str(ground.cache.root)]
        words = ["harness", "reproduce", "--samples", str(ground.samples), "--seed", str(ground.seed), *where]
        again = shlex.join(words)
        return Finding("not run", "–", f"{undone} evaluations are not done yet ({WHOLE} for 50 images of all), and are kept: {again}")
    record = work.record([])
    apart = [
        abs(100 * ours.robust[attack].accuracy - row.paper[column])
        for row in record.rows
        for ours in row.ours
        for attack, column in COLUMNS.items()
        if column in row.paper
    ]
    claims = "; ".join(f"{claim.claim}: {claim.answer}" for claim in record.claims)
    near = sum(distance <= WIDTH for distance in apart)
    return Finding("not comparable", f"{near} of {len(apart)} figures within {WIDTH:g} points; {claims}; n = {record.samples}", WHY)


WHY = "networks of a tenth of the size, trained for less time; faults of the paper's own arithmetic are in docs/reproduction.md"

CHECK = Check(
    "paper",
    "pruning, distillation and low bits compared under PGD and Auto-PGD",
    "tables 3 to 8, n probably 50 (so within about 14 points)",
    "the benchmarking paper of 2025, see docs/reproduction.md",
    answer,
)
