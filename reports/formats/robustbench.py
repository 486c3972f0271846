"""What RobustBench's `model_info` files say of a model, for the twin and for every engine.

The keys are those of https://github.com/RobustBench/robustbench (`model_info/cifar10/Linf/*.json`), where accuracies are text in per cent.
`autoattack_acc` is there only where AutoAttack's standard version was run; a worst case over other attacks is `external`, as RobustBench
calls what another evaluation found.
"""

from __future__ import annotations

import json
from typing import Any

from harness.records import Claim, RunRecord
from reports.outcomes import attacks_of, clean_right, counting, none_left
from reports.run import Run
from reports.sections.verdict import caveat

STANDARD = "autoattack"  # the attack whose figure RobustBench calls autoattack_acc


def to_robustbench(run: Run) -> str:
    """A JSON list of entries: the twin's first, then one per claim. `unreliable` is true where the verdict is not sound; of the twin only
    where that of every claim is not and a gate of the whole run failed, since an engine's own gates say nothing of it.
    """
    record = run.record
    twin = clean_right(run)
    clean_accuracy = None if twin is None else float(twin.mean())
    entries = [_of_twin(record, record.claims[0], clean_accuracy)] if record.claims else []
    return json.dumps([*entries, *(_of_engine(record, claim) for claim in record.claims)], indent=2) + "\n"


def _of_twin(record: RunRecord, claim: Claim, clean_accuracy: float | None) -> dict[str, Any]:
    robust = claim.twin_robust.accuracy if claim.twin_robust else None
    run_wide = any(gate.passed is False and gate.engine is None for gate in record.gates)
    unreliable = run_wide and not any(claim.verdict.sound for claim in record.claims)
    return _entry(record, claim, record.model.name, clean_accuracy, robust, "The PyTorch model.", unreliable=unreliable)


def _of_engine(record: RunRecord, claim: Claim) -> dict[str, Any]:
    engine = next(engine for engine in record.engines if engine.name == claim.engine)
    name = f"{record.model.name} as {claim.engine} on {record.device.name}"
    footnote = f"{engine.runtime} {engine.runtime_version or ''}".rstrip() + f"; {claim.verdict}: {claim.reason}"
    return _entry(
        record,
        claim,
        name,
        engine.clean.accuracy if engine.clean else None,
        claim.engine_robust.accuracy if claim.engine_robust else None,
        footnote,
        unreliable=not claim.verdict.sound,
    )


def _entry(
    record: RunRecord, claim: Claim, name: str, clean: float | None, robust: float | None, footnote: str, *, unreliable: bool
) -> dict[str, Any]:
    counted = counting(record, claim)
    standard = record.model.classes >= 4 and any(attack.name == STANDARD for attack in counted)
    attacks, idle = attacks_of(record, claim)
    over = f"n = {claim.n}; worst case over {', '.join(attacks) or 'no attack'}."
    return {
        "link": None,
        "name": name,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": record.data.name,
        "venue": None,
        "architecture": record.model.arch or record.model.name,
        "eps": claim.eps_exact,
        "clean_acc": _percent(clean),
        "reported": None,
        **({"autoattack_acc": _percent(robust)} if standard else {"external": _percent(robust)}),
        "footnote": " ".join(filter(None, (footnote, caveat(record), over, none_left(idle)))),
        "unreliable": unreliable,
    }


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f}"
