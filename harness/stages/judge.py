"""From everyone's answers to the finished record: samples, metrics, gates, claims and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from devices.host.compare import declared, voids_time_only
from devices.host.saturation import saturates
from export.simulate import simulated_logits
from harness import samples
from harness.answers import TWIN, Column, Logits, Matrix
from harness.attacks.access import Access
from harness.attacks.table import family, resolve
from harness.audit import causes, gates, metrics
from harness.audit.statistics import mean_bounds
from harness.audit.verdict import Comparison, claims, overall
from harness.data.split import few, is_set_aside
from harness.measurement import conditions
from harness.measurement.ratios import ratios
from harness.measurement.simulation import NOT_RUN
from harness.models.engine_file import SCALED_BY_BATCH
from harness.models.predictions import margins
from harness.records import AttackRecord, EngineRecord, Gate, Mismatch, NoiseFloor, Replay, RunRecord, SeededTransfer, Share, Step, Transfer
from harness.settings import Settings, engine_name
from harness.sources import complete, concerns, decides, deciding, flavour_of, graph_name, lacking, of_run
from harness.stages import course, likeness, readings
from harness.stages.again import Again
from harness.stages.decomposition import decompositions
from harness.stages.device import state_mismatches, with_states
from harness.stages.engine_record import engine_records
from harness.stages.export import PARITY_IMAGES
from harness.stages.measured import Measured
from harness.stages.replays import replays
from harness.stages.subject import Subject, describe_device

REFERENCE = "fp32"  # precision of an engine that stands as a control beside those of another


@dataclass(frozen=True)
class Evidence:
    """What a run has gathered.

    Attributes:
        subject: what it is about.
        settings: its options.
        measured: every engine's raw results.
        matrix: everyone's answers.
        lost: engines that gave up while they were asked, and why.
        again: what engines answered once more, opened anew.
    """

    subject: Subject
    settings: Settings
    measured: Sequence[Measured]
    matrix: Matrix
    lost: Mapping[str, str]
    again: Mapping[str, Again] = field(default_factory=dict)

    def answers(self, engine: str) -> bool:
        """Whether an engine answered to everything."""
        return any(m.ok and m.engine.name == engine for m in self.measured) and engine not in self.lost and self.matrix.has(engine)

    def deciding(self, engine: str) -> list[Column]:
        """The sets that an engine's claim rests on: within the primary radius."""
        return deciding(self.matrix.columns, engine, self.subject.eps)


def judge(record: RunRecord, evidence: Evidence, folder: Path) -> RunRecord:
    """The finished record. Writes `samples.parquet` and `timings/` beside it."""
    subject, settings = evidence.subject, evidence.settings
    answering = [m.engine.name for m in evidence.measured if evidence.answers(m.engine.name)]
    samples.save(evidence.matrix, answering, subject.test.images, folder)
    engines = engine_records(subject, evidence.measured, evidence.matrix, evidence.lost, settings.batches, folder)
    drawn = _drawn(evidence)
    found = [
        *_twin_gates(evidence, drawn),
        *(
            gate
            for m, engine in zip(evidence.measured, engines, strict=True)
            for gate in gates.blame_saturation([*_engine_gates(evidence, m, engine)])
        ),
    ]
    found += gates.untested(found, f"not part of this run (tier {settings.tier})")
    judged = claims(list(_comparisons(evidence)), found, settings.allowed) if evidence.matrix.columns else []
    observed = next((m.facts.environment for m in evidence.measured if m.facts.environment and not m.engine.simulated), {})
    return record.model_copy(
        update={
            "status": Step.FINISHED,
            "device": with_states(describe_device(subject.profile, observed), subject.profile, evidence.measured),
            "engines": engines,
            "ratios": ratios({m.engine.name: m.timings for m in evidence.measured if m.ok}),
            "transfer": [_transfer(evidence, column, name) for name in answering for column in evidence.matrix.columns if column.record.n],
            "noise": None if drawn is None else _noise(evidence, drawn),
            "seeded": list(_seeded(evidence, answering)),
            "decompositions": list(
                decompositions(
                    evidence.matrix,
                    answering,
                    subject.eps,
                    settings.allowed,
                    whole=settings.every_image or settings.tier != "quick",
                )
            ),
            "replays": _replays(evidence, answering),
            "gates": found,
            "claims": judged,
            "verdict": overall(judged) if judged else None,
        }
    )


def _replays(evidence: Evidence, answering: Sequence[str]) -> list[Replay]:
    """Where the run has S6: cross-engine replay of the sets of the primary radius that decide claims."""
    settings = evidence.settings
    if "S6" not in {source.id for source in of_run(settings.sources, settings.tier)}:
        return []
    return list(replays(evidence.matrix, answering, _primary(evidence)))


def _primary(evidence: Evidence) -> list[Column]:
    """The sets of the primary radius that decide claims."""
    return [column for column in evidence.matrix.columns if column.eps == evidence.subject.eps and decides(column)]


def _transfer(evidence: Evidence, column: Column, engine: str) -> Transfer:
    """One set on one engine, beside the twin and, for the transfer rate, the model that the set is aimed at."""
    matrix, record = evidence.matrix, column.record
    labels = matrix.labels[column.index]

    def predicted(model: str) -> tuple[metrics.Labels, metrics.Labels]:
        return matrix.logits(model)[column.index].argmax(1), matrix.logits(model, column).argmax(1)

    (twin_clean, twin_adversarial), (engine_clean, engine_adversarial) = predicted(TWIN), predicted(engine)
    return metrics.transfer(
        labels,
        twin_clean,
        engine_clean,
        twin_adversarial,
        engine_adversarial,
        made_on=predicted(record.made_on),
        engine=engine,
        source=record.source,
        target=record.target,
        attack=record.name,
        eps=column.eps,
    )


def _seeded(evidence: Evidence, answering: Sequence[str]) -> Iterator[SeededTransfer]:
    """The transfer rates over all seeds that had an image to attack, of each attack that has several and each engine."""
    matrix = evidence.matrix
    alike: dict[tuple[str, str, str, str], list[Column]] = {}
    for column in (column for column in matrix.columns if column.record.n):
        record = column.record
        alike.setdefault((record.source, record.target, family(record.name), record.eps_exact), []).append(column)
    for name in answering:
        for (source, target, attack, eps), columns in alike.items():
            if len(columns) == 1:
                continue
            sets = []
            for column in columns:
                made_on, index = column.record.made_on, column.index
                both = matrix.right(made_on)[index] & matrix.right(name)[index]
                sets.append((index, both & ~matrix.right(made_on, column), ~matrix.right(name, column)))
            found = metrics.transfer_over_seeds(len(matrix.labels), sets, seed=0)
            if found is not None:
                seeds = [column.record.seed for column in columns]
                yield SeededTransfer(
                    engine=name,
                    source=source,
                    target=target,
                    attack=attack,
                    eps_exact=eps,
                    seeds=seeds,
                    transfer_rate=found[0],
                    ci95=found[1],
                )


def _comparisons(evidence: Evidence) -> Iterator[Comparison]:
    """One claim for each engine of the run, from its own sets alone."""
    matrix = evidence.matrix
    reduced = any(_precision(m) != REFERENCE for m in evidence.measured)
    for m in evidence.measured:
        name = m.engine.name
        columns = evidence.deciding(name)
        if not columns:
            continue
        answered = evidence.answers(name)
        yield Comparison(
            engine=name,
            flavour=flavour_of(name),
            eps_exact=str(evidence.subject.eps),
            twin_right=matrix.worst_case(TWIN, columns),
            engine_right=matrix.worst_case(name, columns) if answered else None,
            sources=frozenset(column.record.source for column in columns),
            missing=tuple(lacking(complete(columns, name), quantized=m.engine.quantized)),
            error=evidence.lost.get(name) or m.facts.error or "",
            simulated=m.engine.simulated,
            control=reduced and _precision(m) == REFERENCE,
        )


def _precision(m: Measured) -> str:
    return "own" if m.engine.exported is None else m.engine.exported.artefact.precision


def _twin_gates(evidence: Evidence, drawn: Logits | None) -> Iterator[Gate]:
    """The gates that concern the twin, the attacks and the data."""
    subject, matrix = evidence.subject, evidence.matrix
    clean = matrix.logits(TWIN)
    yield _clean_accuracy(subject, clean)
    yield gates.logits_not_probabilities(clean)
    yield gates.calibration_disjoint(subject.calibration.images, subject.test.images, set_aside=is_set_aside(subject.calibration))
    yield gates.distinct_images(subject.test.images, subject.test.labels)
    yield likeness.of_calibration(subject, clean.argmax(1))
    yield from likeness.of_attack(subject, settings=evidence.settings, right=matrix.right(TWIN))
    for column in matrix.columns:
        if column.record.source == "gate":
            yield likeness.of_large_radius(subject, matrix, column)
    primary = _primary(evidence)
    gradients = [column.record for column in primary if column.record.source != "S4"]
    yield gates.zero_gradient(_zero_gradients(r for r in gradients if r.target == TWIN))
    made = [column.record for column in matrix.columns if column.record.source not in ("S0", "gate")]
    yield gates.rounding([(called(r), r.undone_by_rounding, r.n_attacked) for r in made])
    yield from _noise_floor(evidence, primary, drawn)
    yield gates.dlr_classes(subject.twin.classes, [r.name for r in gradients if _with_dlr(r.name)])
    queries = [column for column in primary if column.record.target == TWIN and _from_scratch(column.record)]
    white_box = [column for column in primary if column.record.source == "S1"]
    if queries and white_box:
        yield gates.query_attack(matrix.worst_case(TWIN, white_box), matrix.worst_case(TWIN, [*white_box, *queries]))


def _zero_gradients(records: Iterable[AttackRecord]) -> list[gates.Counted]:
    """Of each set made along gradients: the images whose gradient was zero at the start."""
    return [(called(record), record.zero_gradients, record.n_attacked) for record in records]


def _with_dlr(name: str) -> bool:
    """Whether an attack follows the difference-of-logits ratio, or what takes its place with few classes."""
    return "dlr" in name or name.startswith("apgd-t")


def _from_scratch(record: AttackRecord) -> bool:
    """Whether a set was made by queries alone: neither along a gradient nor from where gradients had led."""
    attack = resolve(family(record.name))
    return attack.access is not Access.GRADIENT and not attack.continues


def _drawn(evidence: Evidence) -> Logits | None:
    """The twin's margins under every draw of noise, float32 (draws, n), of all attacked images; None where the run has no noise."""
    noise = [column for column in evidence.matrix.columns if column.record.source == "S0"]
    if not noise:
        return None
    subject, record = evidence.subject, noise[0].record
    attack = resolve(record.name)
    return course.draws(subject.twin.module, subject.test, subject.index, attack, noise[0].eps, record.seed)


def _noise(evidence: Evidence, drawn: Logits) -> NoiseFloor:
    """The floor, draw by draw."""
    right = (drawn > 0) & evidence.matrix.right(TWIN)[evidence.subject.index]
    n, shares = right.shape[1], right.mean(axis=1)
    low, high = mean_bounds(shares, 0.975)
    mean = float(shares.mean())
    return NoiseFloor(
        n=n,
        eps_exact=str(evidence.subject.eps),
        right=right.sum(axis=1).tolist(),
        minimum=float(shares.min()),
        mean=mean,
        maximum=float(shares.max()),
        ci95=(max(0.0, mean if low is None else low), min(1.0, mean if high is None else high)),
        worst=float(right.all(axis=0).mean()),
    )


def _noise_floor(evidence: Evidence, primary: Sequence[Column], drawn: Logits | None) -> Iterator[Gate]:
    """The twin's margins under each draw, and its smallest under the attacks of the same eps, on the images it has right when clean."""
    matrix, index = evidence.matrix, evidence.subject.index
    white_box = [column for column in primary if column.record.source == "S1"]
    if drawn is None or not white_box:
        return
    attacked = _smallest(matrix, white_box)[index]
    seen = matrix.right(TWIN)[index] & np.isfinite(attacked)
    names = dict.fromkeys(family(column.record.name) for column in white_box)
    yield gates.noise_floor(drawn[:, seen], attacked[seen], " and ".join(names))


def _smallest(matrix: Matrix, columns: Sequence[Column]) -> Logits:
    """The twin's smallest margin on each of all images over some sets; infinite where none holds it."""
    found = np.full(len(matrix.labels), np.inf, np.float32)
    for column in columns:
        found[column.index] = np.minimum(found[column.index], margins(matrix.logits(TWIN, column), matrix.labels[column.index]))
    return found


def _clean_accuracy(subject: Subject, clean: Logits) -> Gate:
    """The gate of the twin's clean accuracy, with the reading of labels or pixels that would explain the figure. Pixels that are read as
    more contrast explain none that is better than chance of images that want contrast: these may be what the network is to be tried on.
    """
    test, classes, predictions = subject.test, subject.twin.classes, clean.argmax(1)
    measured = subject.twin.card.get("measured", {})
    card = Share(**measured["clean"]) if measured.get("data") == test.name else None
    gate = gates.clean_accuracy(test.labels, predictions, classes, card)
    order = few(test.labels, len(test))
    images, labels, predictions = test.images[order[: readings.IMAGES]], test.labels[order], predictions[order]
    stretched = gate.passed is False or readings.full_contrast(images)
    pixels = readings.of_pixels(subject.twin.module, images, labels, predictions, stretched=stretched)
    cause = causes.explain(labels, predictions, pixels, classes)
    return gates.clean_accuracy(labels, predictions, classes, card, cause)


def called(record: AttackRecord) -> str:
    """A set in words, in a gate."""
    on = "" if record.target == TWIN else f" on {record.target}"
    return f"{record.source} {record.name}{on}" + (f" at {record.eps_exact}" if record.eps else "")


def _conditions(engine: EngineRecord, wrong: Sequence[Mismatch]) -> Gate:
    """The gate of what the engine was timed under; what makes the device another one than declared is told by a gate of its own."""
    known = {gates.in_words(one) for one in wrong if not voids_time_only(one.what)}
    watched = {batch: latency for batch, latency in engine.latency.items() if latency.conditions or latency.invalid}
    invalid = {batch: [reason for reason in latency.invalid if reason not in known] for batch, latency in watched.items()}
    seen = {batch: latency.conditions for batch, latency in watched.items() if latency.conditions}
    return gates.conditions(engine.name, invalid, {batch: conditions.unchecked(found) for batch, found in seen.items()})


def _engine_gates(evidence: Evidence, m: Measured, engine: EngineRecord) -> Iterator[Gate]:
    """The gates that concern one engine."""
    name, facts, subject, matrix = engine.name, m.facts, evidence.subject, evidence.matrix
    if engine.parity is not None:
        yield gates.artefact_parity(name, engine.parity, given=name in map(engine_name, evidence.settings.files))
    if not evidence.answers(name):
        return
    wrong = state_mismatches(subject.profile, m)
    if m.engine.exported is not None:
        another = [w for w in wrong if not voids_time_only(w.what)]
        yield gates.device_state(
            name, another, read=bool(facts.before) and not m.engine.simulated, declared=bool(declared(subject.profile))
        )
    yield _conditions(engine, wrong)
    clean = matrix.logits(name)
    yield (
        gates.not_tested("logits", "it names labels only", name)
        if facts.labels_only
        else gates.logits_not_probabilities(clean, name, matrix.logits(TWIN))
    )
    yield gates.clean_parity(name, subject.test.labels, matrix.logits(TWIN).argmax(1), clean.argmax(1))
    if m.engine.simulated:
        yield gates.not_tested("precision evidence", NOT_RUN, name)
        yield gates.not_tested("determinism", NOT_RUN, name)
    else:
        claims_none = m.engine.exported is not None and m.engine.closed
        yield (
            gates.not_tested("precision evidence", "the file claims no precision", name)
            if claims_none
            else gates.precision_evidence(name, engine.precision_evidence)
        )
        yield from _saturation(subject, m, clean)
    if facts.checks is not None and not m.engine.simulated:
        yield gates.determinism(name, facts.checks.repeats, facts.checks.deterministic)
        checks = facts.checks
        yield (
            gates.not_tested("timed outputs", SCALED_BY_BATCH, name)
            if m.engine.scaled_by_batch
            else gates.timed_outputs(
                name, checks.timed_outputs_equal_accuracy_outputs, checks.timed_max_logit_error, own_clock=checks.own_clock is not None
            )
        )
        yield gates.repeated_inputs(name, facts.checks.repeated_to_fresh_latency)
    yield from likeness.of_engine(evidence, m)
    on_graph = [c.record for c in _primary(evidence) if c.record.source != "S4" and c.record.target != TWIN and concerns(c, name)]
    if on_graph:
        yield gates.zero_gradient(_zero_gradients(on_graph), name)
    own = [column for column in matrix.columns if column.record.source == "S3" and concerns(column, name)]
    if own:
        graph = graph_name(name)
        yield gates.twin_fidelity(
            name,
            matrix.logits(graph).argmax(1),
            clean.argmax(1),
            np.concatenate([matrix.logits(graph, column).argmax(1) for column in own]),
            np.concatenate([matrix.logits(name, column).argmax(1) for column in own]),
        )


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
    if m.engine.scaled_by_batch:
        yield gates.not_tested("saturation", SCALED_BY_BATCH, name)
        return
    chosen = few(subject.test.labels, PARITY_IMAGES)
    yield gates.saturation(name, simulated_logits(artefact, subject.test.images[chosen]), clean[chosen])
