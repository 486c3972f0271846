"""Hop 6: what the device returned, against the twin: samples, metrics, gates, claims and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devices.compare import declared, voids_time_only
from devices.saturation import saturates
from export.simulate import simulated_logits
from harness import conditions, samples
from harness.audit import causes, gates, metrics
from harness.audit.verdict import Comparison, claims, overall
from harness.hops import readings
from harness.hops.attack import GATE, AdversarialSet, ste_twin
from harness.hops.device import state_mismatches, with_states
from harness.hops.engines import engine_records
from harness.hops.export import PROOF_IMAGES
from harness.hops.measure import CLEAN, Measured
from harness.hops.subject import Subject, describe_device
from harness.predictions import logits, margins
from harness.records import AttackRecord, EngineRecord, Gate, RunRecord, Share, Step, Transfer, in_claim
from harness.settings import Settings
from harness.simulation import NOT_RUN

Logits = NDArray[np.float32]
REFERENCE = "fp32"  # precision of an engine that stands as a control beside those of another


@dataclass(frozen=True)
class Answers:
    """One model's logits (n, classes): on every clean image of the test set, and on each replayed set by its key."""

    clean: Logits
    sets: dict[str, Logits]


def judge(
    record: RunRecord, subject: Subject, settings: Settings, sets: list[AdversarialSet], measured: list[Measured], folder: Path
) -> RunRecord:
    """The finished record. Writes `samples.parquet` and `timings/` beside it."""
    replayed = [s for s in sets if s.record.source != GATE]
    twin = Answers(logits(subject.twin.module, subject.test.images), {s.key: logits(subject.twin.module, s.images) for s in replayed})
    engines = {m.exported.artefact.flavour: Answers(m.result.outputs[CLEAN], m.result.outputs) for m in measured if m.result.status == "ok"}
    bounded = [s.key for s in replayed if s.record.norm == "Linf"]
    made_on = _sources(subject, replayed, twin, measured)
    samples.save([part for flavour, answers in engines.items() for part in _samples(subject, replayed, twin, answers, flavour)], folder)

    records = engine_records(subject, measured, settings.batches, folder)
    found = [
        *_twin_gates(subject, sets, twin),
        *(
            g
            for m, e in zip(measured, records, strict=True)
            for g in gates.blame_saturation([*_engine_gates(subject, made_on, bounded, twin, m, e)])
        ),
    ]
    found += gates.untested(found, f"not part of this run (tier {settings.tier})")
    judged = claims(_comparisons(subject, replayed, twin, engines, measured), found, settings.plan.margin) if replayed else []
    observed = next((m.result.environment for m in measured if m.result.environment and not m.simulated), {})
    return record.model_copy(
        update={
            "status": Step.FINISHED,
            "device": with_states(describe_device(subject.profile, observed), subject.profile, measured),
            "engines": records,
            "transfer": [t for flavour, answers in engines.items() for t in _transfers(subject, replayed, twin, made_on, answers, flavour)],
            "gates": found,
            "claims": judged,
            "verdict": overall(judged) if judged else None,
        }
    )


def _sources(subject: Subject, replayed: list[AdversarialSet], twin: Answers, measured: list[Measured]) -> dict[str, Answers]:
    """By source, what the model that its sets were made on answers to the attacked images and to those sets."""
    found = {source: Answers(twin.clean[subject.index], twin.sets) for source in ("S0", "S1")}
    for m in measured:
        source = f"S3-{m.exported.artefact.flavour}"
        own = [s for s in replayed if s.record.source == source]
        if own:
            ste = ste_twin(m.exported.artefact)
            found[source] = Answers(logits(ste, subject.attacked.images), {s.key: logits(ste, s.images) for s in own})
    return found


def _samples(subject: Subject, replayed: list[AdversarialSet], twin: Answers, engine: Answers, flavour: str) -> Iterator[pd.DataFrame]:
    test, attacked = subject.test, subject.attacked
    everything = np.arange(len(test))
    yield samples.rows(
        index=everything, labels=test.labels, twin=twin.clean, engine=engine.clean, clean=test.images, images=test.images,
        source=CLEAN, attack=CLEAN, eps="0", flavour=flavour,
    )  # fmt: skip
    for s in replayed:
        yield samples.rows(
            index=subject.index, labels=attacked.labels, twin=twin.sets[s.key], engine=engine.sets[s.key], clean=attacked.images,
            images=s.images, source=s.record.source, attack=s.record.name, eps=s.record.eps_exact, flavour=flavour,
        )  # fmt: skip


def _transfers(
    subject: Subject, replayed: list[AdversarialSet], twin: Answers, made_on: dict[str, Answers], engine: Answers, flavour: str
) -> Iterator[Transfer]:
    labels, index = subject.attacked.labels, subject.index
    for s in replayed:
        source = made_on[s.record.source]
        yield metrics.transfer(
            labels,
            twin.clean[index].argmax(1),
            engine.clean[index].argmax(1),
            twin.sets[s.key].argmax(1),
            engine.sets[s.key].argmax(1),
            made_on=(source.clean.argmax(1), source.sets[s.key].argmax(1)),
            engine=flavour,
            source=s.record.source,
            attack=s.record.name,
            eps=s.eps,
        )


def _deciding(subject: Subject, replayed: list[AdversarialSet]) -> list[AdversarialSet]:
    """The sets that claims rest on: every attack at the primary radius, whichever twin it was made on."""
    return [s for s in replayed if s.record.norm == "Linf" and s.eps == subject.eps and s.record.source != "S0"]


def _worst(subject: Subject, sets: list[AdversarialSet], answers: Answers) -> metrics.Right:
    labels, clean = subject.attacked.labels, answers.clean[subject.index].argmax(1)
    return metrics.worst_case([metrics.right(labels, clean, answers.sets[s.key].argmax(1)) for s in sets])


def _comparisons(
    subject: Subject, replayed: list[AdversarialSet], twin: Answers, engines: dict[str, Answers], measured: list[Measured]
) -> list[Comparison]:
    sets = _deciding(subject, replayed)
    if not sets:
        return []
    reduced = any(m.exported.artefact.precision != REFERENCE for m in measured)

    def compare(m: Measured) -> Comparison:
        flavour = m.exported.artefact.flavour
        own = [s for s in sets if in_claim(s.record.source, flavour)]
        return Comparison(
            engine=flavour,
            eps_exact=str(subject.eps),
            twin_right=_worst(subject, own, twin),
            engine_right=_worst(subject, own, engines[flavour]) if flavour in engines else None,
            sources=frozenset(s.record.source.removesuffix(f"-{flavour}") for s in own),
            error=m.result.error or "",
            simulated=m.simulated,
            control=reduced and m.exported.artefact.precision == REFERENCE,
        )

    return [compare(m) for m in measured]


def _twin_gates(subject: Subject, sets: list[AdversarialSet], twin: Answers) -> Iterator[Gate]:
    """The gates that concern the twin, the attacks and the data."""
    yield _clean_accuracy(subject, twin.clean.argmax(1))
    yield gates.logits_not_probabilities(twin.clean)
    yield gates.calibration_disjoint(subject.calibration.images, subject.test.images)
    clean = twin.clean[subject.index]
    right = clean.argmax(1) == subject.attacked.labels
    for s in sets:
        if s.record.source == GATE:
            at_first, labels = right[: len(s.images)], subject.attacked.labels[: len(s.images)]
            yield gates.large_radius((logits(subject.twin.module, s.images).argmax(1) == labels)[at_first])
    primary = _deciding(subject, [s for s in sets if s.record.source != GATE])
    yield gates.zero_gradient(
        {_called(s.record): (round(s.record.zero_gradient_share * s.record.n_attacked), s.record.n_attacked) for s in primary}
    )
    made = [s.record for s in sets if s.record.source not in ("S0", GATE)]
    yield gates.rounding({_called(r): (r.undone_by_rounding, r.n_attacked) for r in made})
    noise = [s for s in sets if s.record.source == "S0"]
    white_box = [s for s in primary if s.record.source == "S1"]
    if noise and white_box:
        worst, other = (
            np.min([margins(twin.sets[s.key], subject.attacked.labels) for s in group], axis=0)[right] for group in (noise, white_box)
        )
        yield gates.noise_floor(worst, other, " and ".join(s.record.name for s in white_box))
    yield gates.dlr_classes(subject.twin.classes, [s.record.name for s in primary if "dlr" in s.record.name])


def _clean_accuracy(subject: Subject, predictions: NDArray[np.int64]) -> Gate:
    """The gate of the twin's clean accuracy; where it fails, with the reading of labels or pixels that would explain the figure."""
    test, classes = subject.test, subject.twin.classes
    told = subject.twin.card.get("measured", {})
    card = Share(**told["clean"]) if told.get("data") == test.name else None
    gate = gates.clean_accuracy(test.labels, predictions, classes, card)
    if gate.passed is not False:
        return gate
    cause = causes.explain(test.labels, predictions, readings.of_pixels(subject.twin.module, test.images), classes)
    return gates.clean_accuracy(test.labels, predictions, classes, card, cause)


def _called(record: AttackRecord) -> str:
    """A set's name in a gate."""
    return f"{record.source} {record.name}"


def _engine_gates(
    subject: Subject, made_on: dict[str, Answers], bounded: list[str], twin: Answers, m: Measured, engine: EngineRecord
) -> Iterator[Gate]:
    """The gates that concern one engine."""
    flavour, result = engine.flavour, m.result
    yield gates.artefact_proof(flavour, engine.proof)
    if result.status != "ok":
        return
    clean = result.outputs[CLEAN]
    wrong = state_mismatches(subject.profile, m)
    another = [w for w in wrong if not voids_time_only(w.what)]
    yield gates.device_state(flavour, another, read=bool(result.before) and not m.simulated, declared=bool(declared(subject.profile)))
    watched = {batch: latency for batch, latency in engine.latency.items() if latency.conditions or latency.invalid}
    told = set(map(gates.in_words, another))
    invalid = {batch: [reason for reason in latency.invalid if reason not in told] for batch, latency in watched.items()}
    seen = {batch: latency.conditions for batch, latency in watched.items() if latency.conditions}
    yield gates.conditions(flavour, invalid, {batch: conditions.unchecked(found) for batch, found in seen.items()})
    yield gates.logits_not_probabilities(clean, flavour)
    yield gates.clean_parity(flavour, subject.test.labels, twin.clean.argmax(1), clean.argmax(1))
    if m.simulated:
        yield gates.not_tested("precision evidence", NOT_RUN, flavour)
        yield gates.not_tested("determinism", NOT_RUN, flavour)
    else:
        yield gates.precision_evidence(flavour, engine.precision_evidence)
        yield from _saturation(subject, m)
    if result.checks is not None and not m.simulated:
        yield gates.determinism(flavour, result.checks.repeats, result.checks.deterministic)
        yield gates.timed_outputs(flavour, result.checks.timed_outputs_equal_accuracy_outputs, result.checks.timed_max_logit_error)
        yield gates.repeated_inputs(flavour, result.checks.repeated_to_fresh_latency)
    ste = made_on.get(f"S3-{flavour}")
    # Minimum-norm images lie on the STE twin's boundary, where any two models differ.
    keys = [key for key in ste.sets if key in bounded] if ste is not None else []
    if ste is not None and keys:
        yield gates.twin_fidelity(
            flavour,
            ste.clean.argmax(1),
            clean[subject.index].argmax(1),
            np.concatenate([ste.sets[key].argmax(1) for key in keys]),
            np.concatenate([result.outputs[key].argmax(1) for key in keys]),
        )


def _saturation(subject: Subject, m: Measured) -> Iterator[Gate]:
    """Of an INT8 engine of onnxruntime: its answers against exact integers, where the CPU that was measured can saturate."""
    artefact, seen = m.exported.artefact, m.result.environment
    if artefact.precision != "int8" or artefact.runtime != "onnxruntime":
        return
    if not saturates(flags := seen.get("isa_flags") or ()):
        yield gates.not_tested(
            "saturation", f"the kernels for this CPU are exact ({seen.get('machine')}: {', '.join(flags)})", artefact.flavour
        )
        return
    exact = simulated_logits(artefact, subject.test.images[:PROOF_IMAGES])
    yield gates.saturation(artefact.flavour, exact, m.result.outputs[CLEAN][:PROOF_IMAGES])
