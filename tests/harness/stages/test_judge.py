"""From answers to claims: each engine by its own sets, whatever the others do. The answers are those of a real run, some then changed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import harness.spine as spine
from export.onnx import export_onnx
from harness.answers import TWIN, Answers, Matrix
from harness.audit.gates import GATES, GIVEN_OTHERWISE
from harness.data.dataset import to_tensor
from harness.records import Claim, RunRecord, Step
from harness.settings import Settings
from harness.stages.evidence import Evidence
from harness.stages.gates.attacks import _from_scratch, _with_dlr
from harness.stages.judge import judge

pytestmark = pytest.mark.slow(25)

FIRST, SECOND, FLOAT = "ort-int8", "ort-int8-rr", "onnx-fp32"
CLASSES = 4


def write_inputs(place: Path) -> None:
    """A small network without training, and images whose labels are its own answers."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(128, CLASSES)).eval()
    onnx.save(export_onnx(network, (3, 16, 16)), place / "small.onnx")
    images = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        labels = network(to_tensor(images)).argmax(1).numpy()
    np.savez(place / "data.npz", images=images, labels=labels, calibration_images=255 - images[:16])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, Evidence, Path]:
    """A bench of two INT8 engines and a float one: its record, and what it was judged from."""
    place, seen = tmp_path_factory.mktemp("judge"), []
    folder = place / "run"
    settings = Settings(
        model=str(place / "small.onnx"), data=str(place / "data.npz"), device="null", flavours=(FIRST, SECOND, FLOAT),
        attacks=("fgsm",), eps="1/255", samples=48, batches=(1,), threads=1,
    )  # fmt: skip
    write_inputs(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spine, "judge", lambda record, evidence, place: seen.append((record, evidence)) or judge(record, evidence, place))
        record = spine.bench(settings, folder, ["harness", "bench"])
    assert record.status is Step.FINISHED
    return *seen[0], folder


def judged(
    run: tuple[RunRecord, Evidence, Path], folder: Path, change: dict[tuple[str, str], str] | None = None, **other: Any
) -> RunRecord:
    """The record judged anew, after some models' answers to some sets were all made "wrong" or "right".

    `change`: (model, target of the S3 set, or another set's source) -> which.
    """
    record, evidence, place = run
    shutil.copytree(place, folder)
    matrix = Matrix(Answers(folder), evidence.matrix.clean, evidence.matrix.columns)
    for (model, aimed), how in (change or {}).items():
        columns = [c for c in matrix.columns if aimed in (c.record.source, c.record.target if c.record.source == "S3" else None)]
        assert columns, aimed
        for column in columns:
            labels = matrix.labels[column.index] + (how == "wrong")
            logits = np.eye(CLASSES, dtype=np.float32)[labels % CLASSES]
            np.save(matrix.answers.folder / model / f"{column.record.set_sha256}.npy", logits)
    return judge(record, dataclasses.replace(evidence, matrix=matrix, **other), folder)


def claim(record: RunRecord, engine: str) -> Claim:
    return next(claim for claim in record.claims if claim.engine == engine)


def by_itself(record: RunRecord, engine: str) -> dict[str, Any]:
    """A claim without its p-value, which Holm adjusts by those of the other claims."""
    return claim(record, engine).model_dump(exclude={"p_value"})


def test_the_sets_of_two_int8_flavours_do_not_mix(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    before = judged(run, tmp_path / "before")
    foreign = judged(run, tmp_path / "foreign", {(FIRST, SECOND): "wrong", (TWIN, SECOND): "wrong"})
    assert by_itself(foreign, FIRST) == by_itself(before, FIRST), "a set that aims at another engine is none of its own"
    assert claim(foreign, SECOND) != claim(before, SECOND), "it is one of the engine that it aims at"
    own = judged(run, tmp_path / "own", {(FIRST, FIRST): "wrong"})
    assert by_itself(own, SECOND) == by_itself(before, SECOND)
    lost = claim(own, FIRST)
    assert lost.engine_robust is not None and lost.engine_robust.correct < claim(before, FIRST).engine_robust.correct


def test_every_claim_is_that_of_the_samples_of_its_own_sources(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    """Counted anew from the matrix, image by image."""
    record, matrix = judged(run, tmp_path / "again"), run[1].matrix
    for engine in (FIRST, SECOND, FLOAT):
        own = [
            c
            for c in matrix.columns
            if c.record.eps_exact == "1/255" and (c.record.source == "S1" or c.record.target == engine or c.record.source == "S4")
            if c.record.source in ("S1", "S3", "S4") and c.record.target in (TWIN, engine)
        ]
        for model, share in ((TWIN, claim(record, engine).twin_robust), (engine, claim(record, engine).engine_robust)):
            right = matrix.logits(model).argmax(1) == matrix.labels
            for column in own:
                right[column.index] &= matrix.logits(model, column).argmax(1) == matrix.labels[column.index]
            assert share is not None and share.correct == int(right[matrix.index].sum()), (engine, model)


def test_a_verdict_does_not_depend_on_the_company(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    """Judged without the other INT8 engine, the same claim; Holm's family is smaller, so only what follows from its size may differ."""
    before = judged(run, tmp_path / "before")
    alone = judged(run, tmp_path / "alone", measured=[m for m in run[1].measured if m.engine.name != SECOND])
    assert {c.engine for c in alone.claims} == {FIRST, FLOAT}
    ours, its = claim(alone, FIRST), claim(before, FIRST)
    assert (ours.twin_robust, ours.engine_robust, ours.gap, ours.lower, ours.upper) == (
        its.twin_robust, its.engine_robust, its.gap, its.lower, its.upper
    )  # fmt: skip


def test_the_control_is_the_float_engine_beside_quantized_ones(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    assert [c.engine for c in judged(run, tmp_path / "all").claims] == [FIRST, SECOND, FLOAT]
    only = judged(run, tmp_path / "only", measured=[m for m in run[1].measured if m.engine.name == FLOAT])
    assert [(c.engine, c.statement) for c in only.claims] == [(FLOAT, claim(only, FLOAT).statement)]


def test_an_engine_that_gave_up_claims_nothing(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    record = judged(run, tmp_path / "lost", lost={FIRST: "crashed: it was killed"})
    gave_up = claim(record, FIRST)
    assert gave_up.engine_robust is None and "it was killed" in gave_up.reason
    assert not [t for t in record.transfer if t.engine == FIRST] and [t for t in record.transfer if t.engine == SECOND]
    assert record.verdict is not None and record.verdict.exit_code == 4


def test_an_engine_that_every_set_fools_fails(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    wrong = {(FIRST, "S1"): "wrong", (TWIN, "S1"): "right", (TWIN, FIRST): "right", (TWIN, "S4"): "right"}
    record = judged(run, tmp_path / "fooled", wrong)
    fails = claim(record, FIRST)
    assert fails.gap is not None and fails.gap > 0.5 and fails.lower is not None and fails.lower > fails.margin
    assert fails.verdict in ("FAILS", "UNTRUSTED")


def test_the_floor_is_told_draw_by_draw_and_its_worst_is_the_set(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    _, evidence, _ = run
    noise = judged(run, tmp_path / "again").noise
    assert noise is not None
    (column,) = (c for c in evidence.matrix.columns if c.record.source == "S0")
    assert len(noise.right) == column.record.steps == 10 and noise.n == len(evidence.subject.index)
    assert noise.worst == evidence.matrix.worst_case(TWIN, [column]).mean()
    assert noise.worst <= noise.minimum == min(noise.right) / noise.n <= noise.mean <= noise.maximum == max(noise.right) / noise.n
    assert noise.ci95[0] <= noise.mean == pytest.approx(np.mean(noise.right) / noise.n) and noise.mean <= noise.ci95[1]


def test_sets_of_other_radii_hide_no_success_that_rounding_undid(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    """One attack makes a set for each radius of the curve: each counts."""
    record, evidence, place = run
    shutil.copytree(place, tmp_path / "run")
    first = next(column for column in evidence.matrix.columns if column.record.source == "S1")
    columns = [
        dataclasses.replace(
            first, record=first.record.model_copy(update={"eps_exact": eps, "n_attacked": 40, "undone_by_rounding": undone})
        )
        for eps, undone in (("1/255", 0), ("2/255", 30), ("4/255", 0))
    ]
    answers = Answers(tmp_path / "run")
    matrix = Matrix(answers, evidence.matrix.clean, [*columns, *evidence.matrix.columns])
    found = judge(record, dataclasses.replace(evidence, matrix=matrix), tmp_path / "run")
    [gate] = [gate for gate in found.gates if gate.name == "rounding"]
    assert (gate.passed, gate.observed) == (False, "at most 75.0% of 40 attacked images (S1 fgsm at 2/255)")


def test_a_file_of_the_user_s_own_is_told_what_helps_it(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    """It was exported elsewhere: what helps an artefact of this program's exporter does not help it."""
    settings = run[1].settings.model_copy(update={"flavours": (f"file:/mine/{FIRST}", SECOND, FLOAT)})
    differing = []
    for m in run[1].measured:
        assert m.engine.exported is not None and m.engine.exported.parity is not None
        parity = m.engine.exported.parity.model_copy(update={"passed": False})
        exported = dataclasses.replace(m.engine.exported, parity=parity)
        differing.append(dataclasses.replace(m, engine=dataclasses.replace(m.engine, exported=exported)))
    found = judged(run, tmp_path / "run", settings=settings, measured=differing)
    remedies = {gate.engine: gate.remedy for gate in found.gates if gate.name == "artefact parity"}
    assert remedies == {FIRST: GIVEN_OTHERWISE, SECOND: GATES["artefact parity"].remedy, FLOAT: GATES["artefact parity"].remedy}


def test_the_query_attack_of_the_gate_owes_nothing_to_gradients() -> None:
    records: Any = [SimpleNamespace(name=name) for name in ("bpda-20", "square-50", "square-warm-50", "hopskipjump-50", "pgd")]
    assert [record.name for record in records if _from_scratch(record)] == ["square-50", "hopskipjump-50"]


def test_a_gradient_that_is_zero_on_one_engine_s_graph_doubts_no_other(run: tuple[RunRecord, Evidence, Path], tmp_path: Path) -> None:
    """As a last layer whose quantizer clips makes it."""
    _, evidence, _ = run
    columns = [
        dataclasses.replace(c, record=c.record.model_copy(update={"zero_gradient_share": 0.75, "n_attacked": 48}))
        if (c.record.source, c.record.target) == ("S3", FIRST)
        else c
        for c in evidence.matrix.columns
    ]
    matrix = Matrix(evidence.matrix.answers, evidence.matrix.clean, columns)
    shutil.copytree(run[2], tmp_path / "changed")
    found = judge(run[0], dataclasses.replace(evidence, matrix=matrix), tmp_path / "changed")
    assert [(gate.engine, gate.passed) for gate in found.gates if gate.name == "zero gradient"] == [
        (None, True),
        (FIRST, False),
        (SECOND, True),
    ]
    assert "'zero gradient'" in claim(found, FIRST).reason
    assert not any("'zero gradient'" in claim(found, other).reason for other in (SECOND, FLOAT))


def test_the_gate_of_dlr_counts_its_targeted_form_too() -> None:
    names = ("apgd-dlr", "apgd-dlr-10", "apgd-t", "apgd-t-100#2", "apgd-ce", "pgd", "bpda")
    assert [name for name in names if _with_dlr(name)] == ["apgd-dlr", "apgd-dlr-10", "apgd-t", "apgd-t-100#2"]


def test_a_set_says_which_row_it_was_made_on(run: tuple[RunRecord, Evidence, Path]) -> None:
    rows = {(a.source, a.target): a.made_on for a in run[0].attacks}
    expected = {("S1", TWIN): TWIN, ("S3", FIRST): f"graph-{FIRST}", ("S4", FIRST): FIRST, ("S4", TWIN): TWIN, ("S4", FLOAT): FLOAT}
    assert expected.items() <= rows.items()
    assert all(run[1].matrix.has(row) for row in rows.values())
