"""From everyone's answers to the finished record: samples, metrics, gates, claims and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import samples
from harness.answers import TWIN, Column
from harness.attacks.table import family
from harness.audit import gates, metrics
from harness.audit.verdict import Comparison, claims, overall
from harness.measurement.ratios import ratios
from harness.records import Replay, RunRecord, SeededTransfer, Step, Transfer
from harness.sources import complete, flavour_of, lacking, of_run
from harness.stages.decomposition import decompositions
from harness.stages.device import with_states
from harness.stages.engine_record import engine_records
from harness.stages.evidence import Evidence
from harness.stages.gates.attacks import of_attacks
from harness.stages.gates.data import of_data
from harness.stages.gates.engines import of_engine
from harness.stages.measured import Measured
from harness.stages.noise import margins_under_noise, noise_floor
from harness.stages.replays import replays
from harness.stages.subject import describe_device

REFERENCE = "fp32"  # precision of an engine that stands as a control beside those of another


def judge(record: RunRecord, evidence: Evidence, folder: Path) -> RunRecord:
    """The finished record. Writes `samples.parquet` and `timings/` beside it."""
    subject, settings = evidence.subject, evidence.settings
    answering = [m.engine.name for m in evidence.measured if evidence.answers(m.engine.name)]
    samples.save(evidence.matrix, answering, subject.test.images, folder)
    engines = engine_records(subject, evidence.measured, evidence.matrix, evidence.lost, settings.batches, folder)
    drawn = margins_under_noise(evidence)
    found = [
        *of_data(evidence),
        *of_attacks(evidence, drawn),
        *(
            gate
            for m, engine in zip(evidence.measured, engines, strict=True)
            for gate in gates.blame_saturation([*of_engine(evidence, m, engine)])
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
            "noise": None if drawn is None else noise_floor(evidence, drawn),
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
    return list(replays(evidence.matrix, answering, evidence.primary))


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
            missing=tuple(lacking(complete(columns, name), own_graph=m.engine.own_graph)),
            error=evidence.lost.get(name) or m.facts.error or "",
            simulated=m.engine.simulated,
            control=reduced and _precision(m) == REFERENCE,
        )


def _precision(m: Measured) -> str:
    return "own" if m.engine.exported is None else m.engine.exported.artefact.precision
