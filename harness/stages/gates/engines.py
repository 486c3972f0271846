"""Gates of one engine: whether what was deployed is what was made, and whether its answers and its times can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from devices.host.compare import declared, voids_time_only
from devices.host.saturation import saturates
from devices.host.transports import LOCAL
from devices.worker.environment import describe_machine
from export.session import runs_exact
from export.simulate import simulated_logits
from harness.answers import TWIN, Logits
from harness.audit import gates
from harness.data.split import few
from harness.measurement import conditions
from harness.measurement.simulation import NOT_RUN
from harness.records import EngineRecord, Gate, Mismatch
from harness.settings import engine_name
from harness.sources import concerns, graph_name
from harness.stages.device import state_mismatches
from harness.stages.evidence import Evidence
from harness.stages.export import PARITY_IMAGES
from harness.stages.gates.attacks import zero_gradients
from harness.stages.measured import Measured
from harness.stages.subject import Subject

IMAGES = 64  # whose answers by the file are worked out again


def of_engine(evidence: Evidence, m: Measured, engine: EngineRecord) -> Iterator[Gate]:
    """Of one that could not be asked, whether its file was exported well; of the others everything."""
    if engine.parity is not None:
        yield gates.artefact_parity(engine.name, engine.parity, given=engine.name in map(engine_name, evidence.settings.files))
    if evidence.answers(engine.name):
        yield from _device(evidence.subject, m, engine)
        yield from _answers(evidence, m)
        yield from _kernels(evidence, m, engine)
        yield from _self_checks(m)
        yield from _file(evidence, m)
        yield from _against_others(evidence, m)
        yield from _clock(m)
        yield from _graph(evidence, m)


def _device(subject: Subject, m: Measured, engine: EngineRecord) -> Iterator[Gate]:
    """Of what it ran on."""
    wrong = state_mismatches(subject.profile, m)
    if m.engine.exported is not None:
        another = [w for w in wrong if not voids_time_only(w.what)]
        read = bool(m.facts.before) and not m.engine.simulated
        yield gates.device_state(engine.name, another, read=read, declared=bool(declared(subject.profile)))
    yield _conditions(engine, wrong)


def _answers(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of its answers to the clean images."""
    name, twin, found = m.engine.name, evidence.matrix.logits(TWIN), evidence.matrix.logits(m.engine.name)
    if m.facts.labels_only:
        yield gates.not_tested("logits", "it names labels only", name)
    else:
        yield gates.logits_not_probabilities(found, name, twin)
    yield gates.clean_parity(name, evidence.subject.test.labels, twin.argmax(1), found.argmax(1))


def _kernels(evidence: Evidence, m: Measured, engine: EngineRecord) -> Iterator[Gate]:
    """Of what its arithmetic is."""
    name = engine.name
    if m.engine.simulated:
        yield gates.not_tested("precision evidence", NOT_RUN, name)
        yield gates.not_tested("determinism", NOT_RUN, name)
        return
    if m.engine.exported is not None and m.engine.closed:
        yield gates.not_tested("precision evidence", "the file claims no precision", name)
    else:
        yield gates.precision_evidence(name, engine.precision_evidence)
    yield from _saturation(evidence.subject, m, evidence.matrix.logits(name))


def _self_checks(m: Measured) -> Iterator[Gate]:
    """Of what was asked while it was timed."""
    name, checks = m.engine.name, m.facts.checks
    if checks is None or m.engine.simulated:
        return
    yield gates.determinism(name, checks.repeats, checks.deterministic)
    if m.engine.one_by_one:
        yield gates.not_tested("timed outputs", "its answers to several images at once are others: they share the scales", name)
    else:
        equal, error = checks.timed_outputs_equal_accuracy_outputs, checks.timed_max_logit_error
        yield gates.timed_outputs(name, equal, error, own_clock=checks.own_clock is not None)
    yield gates.repeated_inputs(name, checks.repeated_to_fresh_latency)


def _file(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of whether it is what was made: its file, or where nobody can look into it, the twin."""
    name, matrix = m.engine.name, evidence.matrix
    found = matrix.logits(name)
    if m.engine.closed:
        twin, attacked, own = matrix.logits(TWIN), _under_attack(evidence, TWIN), _under_attack(evidence, name)
        moved = evidence.again[name].moved if name in evidence.again else None
        scores = None if m.facts.labels_only else {"clean": (twin, found), "attacked": (attacked, own)}
        clean, under_attack = (twin.argmax(1), found.argmax(1)), (attacked.argmax(1), own.argmax(1))
        yield gates.engine_parity(name, *clean, *under_attack, _kept(evidence, name), moved, scores)
    elif m.engine.simulated:
        yield gates.not_tested("file fidelity", NOT_RUN, name)
    else:
        yield _file_fidelity(evidence.subject, m, found)


def _against_others(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of its answers against its own, opened anew, the twin's, and another build's."""
    name, matrix = m.engine.name, evidence.matrix
    if name in evidence.again:
        again = evidence.again[name]
        yield gates.lost_anew(name, again.error) if again.error else gates.fresh_answers(name, again.before, again.now)
    if columns := evidence.deciding(name):
        yield gates.engine_gain(name, matrix.worst_case(TWIN, columns), matrix.worst_case(name, columns))
    yield from _rebuild(evidence, m)


def _graph(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of the graph that sets were made on: whether it has gradients, and whether the engine answers as it does."""
    name, matrix = m.engine.name, evidence.matrix
    made = [c.record for c in evidence.primary if c.record.source != "S4" and c.record.target != TWIN and concerns(c, name)]
    if made:
        yield gates.zero_gradient(zero_gradients(made), name)
    graph, own = graph_name(name), [column for column in matrix.columns if column.record.source == "S3" and concerns(column, name)]
    if own:
        yield gates.twin_fidelity(
            name,
            matrix.logits(graph).argmax(1),
            matrix.logits(name).argmax(1),
            np.concatenate([matrix.logits(graph, column).argmax(1) for column in own]),
            np.concatenate([matrix.logits(name, column).argmax(1) for column in own]),
        )


def _conditions(engine: EngineRecord, wrong: Sequence[Mismatch]) -> Gate:
    """The gate of what the engine was timed under; what makes the device another one than declared is told by a gate of its own."""
    known = {gates.in_words(one) for one in wrong if not voids_time_only(one.what)}
    watched = {batch: latency for batch, latency in engine.latency.items() if latency.conditions or latency.invalid}
    invalid = {batch: [reason for reason in latency.invalid if reason not in known] for batch, latency in watched.items()}
    seen = {batch: latency.conditions for batch, latency in watched.items() if latency.conditions}
    return gates.conditions(engine.name, invalid, {batch: conditions.unchecked(found) for batch, found in seen.items()})


def _saturation(subject: Subject, m: Measured, clean: Logits) -> Iterator[Gate]:
    """Of an INT8 engine of onnxruntime: its answers against exact integers, where the CPU that was measured can saturate."""
    if m.engine.exported is None:
        return
    artefact, name, seen = m.engine.exported.artefact, m.engine.name, m.facts.environment
    if artefact.precision != "int8" or artefact.runtime != "onnxruntime":
        return
    if not saturates(flags := seen.get("isa_flags") or ()):
        yield gates.not_tested("saturation", f"the kernels for this CPU are exact ({seen.get('machine')}: {', '.join(flags)})", name)
        return
    chosen = few(subject.test.labels, PARITY_IMAGES)
    yield gates.saturation(name, simulated_logits(artefact, subject.test.images[chosen]), clean[chosen])


def _file_fidelity(subject: Subject, m: Measured, found: NDArray[np.float32]) -> Gate:
    assert m.engine.exported is not None  # noqa: S101 - asked by the caller
    artefact, seen = m.engine.exported.artefact, m.facts.environment
    own = artefact.runtime == "onnxruntime"
    saturating = own and artefact.precision == "int8" and not runs_exact(artefact.session_config) and saturates(seen.get("isa_flags") or ())
    if saturating and not saturates(describe_machine()["isa_flags"]):
        return gates.not_tested("file fidelity", "its CPU's kernels can saturate, and those here do not: see 'saturation'", m.engine.name)
    chosen, here = few(subject.test.labels, IMAGES), subject.profile.transport == LOCAL
    images, found = subject.test.images[chosen], found[chosen]
    file = simulated_logits(artefact, images, exact=not saturating)
    if not own or (saturating and not here):  # kernels of another CPU that saturates may add in another order, and so saturate elsewhere
        return gates.file_fidelity(m.engine.name, file, found)
    other_way = file if here else simulated_logits(artefact, images, optimise=False)
    return gates.file_fidelity(m.engine.name, file, found, other_way)


def _under_attack(evidence: Evidence, model: str) -> Logits:
    """What a model answers to the images that were attacked on the twin, float32 (n, classes): each of the first set that holds it, since
    the later ones hold those on which twin and engine part.
    """
    matrix = evidence.matrix
    new, found = np.ones(len(matrix.labels), np.bool_), [matrix.logits(model)[:0]]
    for column in evidence.primary:
        if column.record.source == "S1":
            found.append(matrix.logits(model, column)[new[column.index]])
            new[column.index] = False
    return np.concatenate(found)


def _kept(evidence: Evidence, engine: str) -> NDArray[np.bool_] | None:
    """Where an engine stays right of the images that the claim's attacks take from the twin, of those that both have right when clean; None
    where it was not attacked itself: then they tell how the twin's sets transfer.
    """
    matrix, columns = evidence.matrix, evidence.deciding(engine)
    if not any(column.record.target == engine for column in columns):
        return None
    both = (matrix.right(TWIN) & matrix.right(engine))[matrix.index]
    kept: NDArray[np.bool_] = matrix.worst_case(engine, columns)[both & ~matrix.worst_case(TWIN, columns)]
    return kept


def _rebuild(evidence: Evidence, m: Measured) -> Iterator[Gate]:
    """Of a later build of a flavour: its answers against the first one's."""
    engine, matrix = m.engine, evidence.matrix
    first = engine.id.flavour
    if engine.id.build == 0 or not evidence.answers(first):
        return
    sets = [None, *matrix.columns]
    one, other = (np.concatenate([matrix.logits(name, column).argmax(1) for column in sets]) for name in (first, engine.name))
    yield gates.rebuild_spread(engine.name, one, other)


def _clock(m: Measured) -> Iterator[Gate]:
    name, checks = m.engine.name, m.facts.checks
    if checks is not None and checks.own_clock is not None:
        yield gates.own_clock(name, checks.own_clock)
    if m.timings and not m.facts.synthetic:
        fastest = {
            batch: [float(timing.latency_ns[timing.round == number].min()) for number in np.unique(timing.round)]
            for batch, timing in m.timings.items()
        }
        yield gates.steady_latency(name, fastest)
