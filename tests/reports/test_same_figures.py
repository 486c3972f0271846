"""Pages of one report that tell the same figure tell the same number: the cascade, the claims, the worst cases and the first page."""

from __future__ import annotations

import hashlib
import shutil
from fractions import Fraction

import numpy as np
from synthetic import make_run, share

from harness.answers import TWIN, Answers
from reports.cascade import cascade
from reports.figures import figures
from reports.outcomes import attacks_of, worst_cases
from reports.run import Run
from reports.sections import flipped, numbers

N = 8
INT8, FP32 = "ort-int8", "onnx-fp32"
SETS = (  # source, target, attack, radius -> who is fooled on which images
    ("S1", TWIN, "fgsm", "8/255", {TWIN: [0], INT8: [0], FP32: [0]}),
    ("S1", TWIN, "pgd", "4/255", {TWIN: [0], INT8: [0, 1], FP32: [0]}),  # one that the larger ball's set left
    ("S3", INT8, "fgsm", "8/255", {TWIN: [2], INT8: [3], FP32: [4]}),  # none of onnx-fp32's
    ("S4", TWIN, "square", "8/255", {TWIN: [5], INT8: [5], FP32: [6]}),
    ("S4", INT8, "square", "8/255", {TWIN: [], INT8: [7], FP32: [7]}),  # onnx-fp32 was not attacked so, nor counts what the twin was
)
LEFT = {TWIN: N - 3, INT8: N - 5, FP32: N - 1}  # twin: 0, 2, 5; ort-int8: 0, 1, 3, 5, 7; onnx-fp32: 0
TWIN_BESIDE = {INT8: N - 3, FP32: N - 1}


class Fooled:
    """Right on all images but some."""

    sha256 = "7c" * 32

    def __init__(self, name, places):
        self.id, self.places = name, places

    def logits(self, images):
        return np.eye(2, dtype=np.float32)[np.isin(np.arange(len(images)), self.places).astype(int)]


def small_run(folder):
    """Eight images of class 0, which everyone has right when clean, and the sets of `SETS`."""
    record = make_run(folder, n=N, n_clean=N)
    shutil.rmtree(folder / "answers")
    answers = Answers(folder)
    answers.begin(np.zeros(N, np.int64), np.arange(N))
    like, attacks, cells = record.attacks[1], [], {record.data.sha256: {}}
    for source, target, name, eps, fooled in SETS:
        sha256 = hashlib.sha256(f"{source}{target}{name}{eps}".encode()).hexdigest()
        told = {"source": source, "target": target, "name": name, "eps_exact": eps, "eps": float(Fraction(eps)), "set_sha256": sha256}
        attacks.append(like.model_copy(update=told))
        cells[sha256] = fooled
    for sha256, fooled in cells.items():
        for model in (TWIN, INT8, FP32):
            answers.ask(Fooled(model, fooled.get(model, [])), sha256, np.zeros((N, 1)))
    claims = [
        claim.model_copy(
            update={
                "twin_robust": share(TWIN_BESIDE[claim.engine], N),
                "engine_robust": share(LEFT[claim.engine], N),
                "sources": ["S1", "S3", "S4"] if claim.engine == INT8 else ["S1"],
            }
        )
        for claim in record.claims
    ]
    engines = [engine.model_copy(update={"clean": share(N, N)}) for engine in record.engines]
    record.model_copy(update={"attacks": attacks, "transfer": [], "claims": claims, "engines": engines}).save(folder)
    return Run.open(folder)


def test_the_cascade_ends_with_the_figures_of_the_claims(tmp_path):
    models, stages = cascade(small_run(tmp_path / "run"))
    assert models[0] == TWIN and stages[-1].left == LEFT
    assert [stage.attack for stage in stages] == ["no attack (clean)", "fgsm", "pgd at 4/255", "fgsm", "square", "square"]


def test_the_worst_cases_count_the_sets_that_the_claims_rest_on(tmp_path):
    run = small_run(tmp_path / "run")
    found = {(case.engine, case.eps): (case.twin, case.right, case.attacks) for case in worst_cases(run)}
    assert found[INT8, Fraction(8, 255)] == (N - 3, N - 5, 4)
    assert found[FP32, Fraction(8, 255)] == (N - 1, N - 1, 1)
    named = {claim.engine: attacks_of(run.record, claim)[0] for claim in run.record.claims}
    assert named == {INT8: ["S1 fgsm", "S3 fgsm", "S4 square"], FP32: ["S1 fgsm"]}


def test_the_twin_of_the_first_page_is_that_of_every_claim(tmp_path):
    (table,) = numbers.section(small_run(tmp_path / "run")).tables
    assert [cell.text for cell in table.rows[0]][3] == "62.5 % to 87.5 %"
    assert "each engine's own sets" in table.note


def test_as_many_flipped_images_are_told_as_are_shown(tmp_path):
    make_run(tmp_path / "run", n=N, noise=1.0)
    found = flipped.section(Run.open(tmp_path / "run"))
    shown = len(found.tables[0].rows)
    assert 1 < shown < N and f"; {shown} images shown, each once" in found.paragraphs[0]


def test_a_picture_says_in_words_what_the_table_of_the_claims_says(tmp_path):
    """0.04 points are not `-0.0`, nor is a bound just below the margin the margin."""
    record = make_run(tmp_path / "run", n=N)
    first, *others = record.claims
    narrow = first.model_copy(update={"gap": 0.0, "lower": -0.0004, "upper": 0.04996, "margin": 0.05})
    record.model_copy(update={"claims": [narrow, *others]}).save(tmp_path / "run")
    assert f"{narrow.engine}, 8/255: 0.0, −0.04 to +4.996, margin 5.0" in figures(Run.open(tmp_path / "run"))["claims"][0].svg
