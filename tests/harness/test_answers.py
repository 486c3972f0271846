"""The matrix on disk: a finished cell is never computed again, and answers of two models never mix."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.answers import TWIN, Answers, Column, Images, Logits, Matrix
from harness.errors import UntrustedError
from harness.records import AttackRecord, Queries
from harness.sources import complete, concerns, deciding, lacking

N, CLASSES = 6, 3
LABELS = np.array([0, 1, 2, 0, 1, 2])
IMAGES = np.zeros((N, 2, 2, 3), np.uint8)


@dataclass
class Fixed:
    """A model that answers with the labels, but for the images in `wrong`; it counts how often it was asked."""

    id: str = TWIN
    sha256: str = "a" * 64
    wrong: tuple[int, ...] = ()
    asked: list[int] = field(default_factory=list)

    def logits(self, images: Images) -> Logits:
        self.asked.append(len(images))
        answer = np.eye(CLASSES, dtype=np.float32)[LABELS[: len(images)]]
        for row in self.wrong:
            answer[row] = np.roll(answer[row], 1)
        return answer


def attack(source: str, target: str, eps: str = "8/255", norm: str = "Linf", sha: str = "s", name: str = "pgd") -> AttackRecord:
    return AttackRecord(
        source=source, target=target, name=name, library="harness", norm=norm,
        eps=float(Fraction(eps)), eps_exact=eps, steps=1, step_size="1",
        seed=0, n=N, n_attacked=N, target_accuracy=0.0, linf_max=0.0, l2_mean=0.0, l2_median=None, zero_gradient_share=0.0,
        undone_by_rounding=0, queries=Queries.of([1] * N), set_sha256=sha, file="adversarial/x.npz",
    )  # fmt: skip


def matrix(folder: Path, wrong: dict[tuple[str, str], tuple[int, ...]], columns: list[Column]) -> Matrix:
    """Answers of each (model, set) that has every image right but those named."""
    answers = Answers(folder)
    answers.begin(LABELS, np.arange(N))
    for (model, sha), rows in wrong.items():
        answers.ask(Fixed(model, wrong=rows), sha, IMAGES)
    return Matrix(answers, "clean", columns)


def test_a_finished_cell_is_never_asked_again(tmp_path: Path) -> None:
    model = Fixed()
    first = Answers(tmp_path).ask(model, "s", IMAGES)
    again = Answers(tmp_path).ask(model, "s", IMAGES)
    assert model.asked == [N]
    np.testing.assert_array_equal(first, again)


def test_a_cell_of_another_length_or_a_damaged_one_is_asked_anew(tmp_path: Path) -> None:
    model, answers = Fixed(), Answers(tmp_path)
    answers.ask(model, "s", IMAGES[:2])
    answers.ask(model, "s", IMAGES)
    (answers.folder / TWIN / "s.npy").write_bytes(b"damaged")
    whole = answers.ask(model, "s", IMAGES)
    for other in (whole[:, :2], np.where(whole > 0, np.nan, whole), np.where(whole > 0, np.inf, whole)):
        np.save(answers.folder / TWIN / "s.npy", other.astype(np.float32))
        np.testing.assert_array_equal(answers.ask(model, "s", IMAGES), whole)
    assert model.asked == [2, N, N, N, N, N]


def test_answers_of_another_model_of_the_same_name_are_not_mixed(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.ask(Fixed("ort-int8", "a" * 64), "s", IMAGES)
    with pytest.raises(UntrustedError, match=r"another one than when this run was begun .*its threads are as many as the CPUs"):
        answers.ask(Fixed("ort-int8", "b" * 64), "t", IMAGES)


def test_the_worst_case_is_right_clean_and_under_every_set(tmp_path: Path) -> None:
    one, two = Column(attack("S1", TWIN, sha="one"), np.arange(N)), Column(attack("S1", TWIN, sha="two"), np.arange(N))
    found = matrix(tmp_path, {(TWIN, "clean"): (0,), (TWIN, "one"): (1,), (TWIN, "two"): (1, 2)}, [one, two])
    assert found.worst_case(TWIN, []).tolist() == [False, True, True, True, True, True]
    assert found.worst_case(TWIN, [one]).tolist() == [False, False, True, True, True, True]
    assert found.worst_case(TWIN, [one, two]).tolist() == [False, False, False, True, True, True]


def test_an_image_that_a_set_does_not_hold_keeps_its_standing(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.begin(LABELS, np.arange(N))
    answers.ask(Fixed(), "clean", IMAGES)
    column = Column(attack("S1", TWIN), np.array([4]))
    answers.ask(Fixed(wrong=(0,)), "s", IMAGES[:1])  # its one image is number 4, whose label is 1: named 0, then rolled to 1
    assert Matrix(answers, "clean", [column]).worst_case(TWIN, [column]).tolist() == [True] * N
    answers.ask(Fixed(), "t", IMAGES[:1])
    other = Column(attack("S1", TWIN, sha="t"), np.array([4]))
    assert Matrix(answers, "clean", [other]).worst_case(TWIN, [other]).tolist() == [True, True, True, True, False, True]


def test_a_missing_cell_is_said(tmp_path: Path) -> None:
    column = Column(attack("S1", TWIN), np.arange(N))
    found = matrix(tmp_path, {(TWIN, "clean"): ()}, [column])
    with pytest.raises(UntrustedError, match="answers of twin to S1 pgd are missing"):
        found.worst_case(TWIN, [column])


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (attack("S1", TWIN), True),
        (attack("S4", TWIN), True),
        (attack("S3", "ort-int8"), True),
        (attack("S3", "ort-int8-rr"), False),
        (attack("S4", "onnx-fp32"), False),
        (attack("S0", TWIN), False),
        (attack("gate", TWIN, "64/255"), False),
        (attack("S1", TWIN, "0", "L2"), False),
    ],
)
def test_a_claim_names_its_sets_and_does_not_depend_on_other_engines(record: AttackRecord, counts: bool) -> None:
    assert concerns(Column(record, np.arange(N)), "ort-int8") is counts


def test_a_ball_contains_smaller_ones() -> None:
    small, large = (Column(attack("S1", TWIN, eps), np.arange(N)) for eps in ("4/255", "8/255"))
    assert deciding([small, large], "ort-int8", Fraction(8, 255)) == [small, large]
    assert deciding([small, large], "ort-int8", Fraction(4, 255)) == [small]


def test_the_twin_is_attacked_as_the_engine_was() -> None:
    """An engine that names labels only makes the run attack the twin in another way, which is nothing to an engine that gives scores."""
    sets = [
        ("S1", TWIN, "pgd"),
        ("S4", TWIN, "square"),
        ("S4", TWIN, "hopskipjump"),
        ("S4", "scores", "square"),
        ("S4", "own", "hopskipjump"),
    ]
    columns = [Column(attack(source, target, name=name), np.arange(N)) for source, target, name in sets]
    assert deciding(columns, "scores", Fraction(8, 255)) == [columns[0], columns[1], columns[3]]
    assert deciding(columns, "own", Fraction(8, 255)) == [columns[0], columns[2], columns[4]]
    assert deciding(columns, "another", Fraction(8, 255)) == [columns[0]]


@pytest.mark.parametrize(
    ("sets", "whole"),
    [
        ([(TWIN, "bpda"), (TWIN, "square"), ("ort-int8", "bpda"), ("ort-int8", "square")], True),
        ([(TWIN, "bpda"), (TWIN, "square"), ("ort-int8", "square")], True),
        ([(TWIN, "square"), ("ort-int8", "bpda"), ("ort-int8", "square")], False),
        ([(TWIN, "bpda"), (TWIN, "square")], False),
        ([("ort-int8", "bpda")], False),
        ([(TWIN, "bpda"), ("another", "bpda")], False),
    ],
)
def test_the_engine_was_attacked_where_the_twin_was_attacked_alike(sets: list[tuple[str, str]], whole: bool) -> None:
    columns = [Column(attack("S4", target, name=name), np.arange(N)) for target, name in sets]
    assert (complete(columns, "ort-int8") == {"S4"}) is whole


@pytest.mark.parametrize(
    ("sources", "quantized", "missing"),
    [({"S1", "S4"}, False, []), ({"S1", "S4"}, True, ["S3"]), ({"S1", "S3", "S4"}, True, []), (set(), True, ["S1", "S3", "S4"])],
)
def test_what_a_claim_needs_to_hold(sources: set[str], quantized: bool, missing: list[str]) -> None:
    assert [source.id for source in lacking(sources, own_graph=quantized)] == missing


@given(st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=1, max_size=4))
def test_more_sets_never_make_a_model_more_robust(tables: list[list[bool]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        columns = [Column(attack("S1", TWIN, sha=f"s{i}"), np.arange(N)) for i in range(len(tables))]
        wrong = {(TWIN, f"s{i}"): tuple(np.flatnonzero(~np.array(table))) for i, table in enumerate(tables)}
        found = matrix(Path(folder), {(TWIN, "clean"): (), **wrong}, columns)
        counts = [found.worst_case(TWIN, columns[:i]).sum() for i in range(len(columns) + 1)]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] == np.logical_and.reduce(tables).sum()
