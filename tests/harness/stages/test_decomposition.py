"""The gap decomposition, from hand-made answers: who is right under what, and that the steps add up."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.answers import TWIN, Answers, Column, Matrix
from harness.audit.statistics import tango
from harness.records import Decomposition, Waterfall
from harness.sources import PARENT
from harness.stages.decomposition import HIDDEN, decompositions

CLEAN, N, EPS = "clean", 40, Fraction(8, 255)
SETS = {  # name: source, target, radius, images that it holds
    "S1-all": ("S1", TWIN, "8/255", range(N)),
    "S1-small": ("S1", TWIN, "4/255", range(20)),
    "S1-large": ("S1", TWIN, "16/255", range(N)),
    "S1-parent": ("S1", PARENT, "8/255", range(N)),
    "S3-int8": ("S3", "int8", "8/255", range(10, N)),
    "S3-other": ("S3", "other", "8/255", range(N)),
    "S4-twin": ("S4", TWIN, "8/255", range(N)),
    "S4-int8": ("S4", "int8", "8/255", range(N)),
    "S4-int8#2": ("S4", "int8#2", "8/255", range(N)),
}
ROWS = (PARENT, TWIN, "graph-int8", "simulated-int8", "int8", "int8#2", "int8#3", "other")


def matrix(folder: Path, rows: tuple[str, ...] = ROWS) -> Matrix:
    """Random answers; every label is 0."""
    answers, rng = Answers(folder), np.random.default_rng(3)
    answers.begin(np.zeros(N, np.int64), np.arange(N))
    for model in rows:
        (answers.folder / model).mkdir()
        for name, size in [(CLEAN, N), *((name, len(holds)) for name, (*_, holds) in SETS.items())]:
            right = rng.random(size) < (0.95 if name == CLEAN else 0.85)
            np.save(answers.folder / model / f"{name}.npy", np.stack([right, ~right], axis=1).astype(np.float32))
    columns = []
    for name, (source, target, eps, holds) in SETS.items():
        record: Any = SimpleNamespace(set_sha256=name, name="attack", source=source, target=target, norm="Linf", eps_exact=eps)
        columns.append(Column(record, np.array(holds)))
    return Matrix(answers, CLEAN, columns)


def robust(found: Matrix, model: str, *sets: str) -> np.ndarray:
    right = found.logits(model).argmax(1) == 0
    for column in found.columns:
        if column.record.set_sha256 in sets:
            right[column.index] &= found.logits(model, column).argmax(1) == 0
    return right


def fall(found: Decomposition, under: str) -> Waterfall:
    return next(one for one in found.waterfalls if one.under == under)


REPLAY = ("S1-all", "S1-small")
ADAPTIVE = (*REPLAY, "S3-int8", "S4-twin", "S4-int8")


def test_each_level_is_right_under_its_own_sets_and_the_losses_add_up(tmp_path: Path) -> None:
    found = matrix(tmp_path)
    int8, other = decompositions(found, ["int8", "int8#2", "int8#3", "other"], EPS, 0.02, whole=True)
    assert (int8.engine, other.engine, int8.n, int8.note) == ("int8", "other", N, "")
    builds = {"int8#2": (*REPLAY, "S3-int8", "S4-twin", "S4-int8#2"), "int8#3": (*REPLAY, "S3-int8")}
    expected = {
        "replay": {
            "parent": robust(found, PARENT, "S1-parent"),
            **{row: robust(found, row, *REPLAY) for row in (TWIN, "graph-int8", "simulated-int8", "int8", "int8#2", "int8#3")},
        },
        "adaptive": {
            **{row: robust(found, row, *ADAPTIVE) for row in (TWIN, "graph-int8", "simulated-int8", "int8")},
            **{row: robust(found, row, *sets) for row, sets in builds.items()},
        },
    }
    for under, rows in expected.items():
        levels = fall(int8, under).levels
        assert [level.name for level in levels][-5:] == ["twin", "quantized", "simulated", "engine", "rebuild"]
        assert (levels[0].name == "parent") == (under == "replay")
        assert rows[levels[-1].model].sum() == min(rows[name].sum() for name in builds)
        for before, level in zip([None, *levels], levels, strict=False):
            right = rows[level.model]
            assert level.robust.correct == right.sum()
            if before is None:
                assert level.lost is None
                continue
            assert level.lost is not None
            twin_only, engine_only = (int((rows[before.model] & ~right).sum()), int((~rows[before.model] & right).sum()))
            assert (level.lost.lower, level.lost.upper) == tango(twin_only, engine_only, N)
        whole = levels[0].robust.accuracy - levels[-1].robust.accuracy
        assert sum(level.lost.gap for level in levels if level.lost is not None) == pytest.approx(whole)
    assert int8.replay is not None
    assert int8.replay.gap == pytest.approx(robust(found, TWIN, *REPLAY).mean() - robust(found, "int8", *REPLAY).mean())
    assert int8.adaptive.gap == pytest.approx(robust(found, TWIN, *ADAPTIVE).mean() - robust(found, "int8", *ADAPTIVE).mean())
    assert "S3 attack" in fall(int8, "adaptive").sets and fall(int8, "replay").sets == ["S1 attack"]


def test_models_that_were_not_shown_everything_are_compared_under_what_they_were_shown_alone(tmp_path: Path) -> None:
    found = matrix(tmp_path)
    (int8,) = decompositions(found, ["int8"], EPS, 0.02, whole=False)
    assert [level.name for level in fall(int8, "adaptive").levels] == ["twin", "engine"]
    replayed = fall(int8, "replay").levels
    assert [level.model for level in replayed] == [TWIN, "graph-int8", "simulated-int8", "int8"], "of the parent nobody knows who left"
    assert [level.robust.correct for level in replayed] == [robust(found, level.model, "S1-all").sum() for level in replayed]
    assert int8.note == HIDDEN and int8.replay is not None
    assert int8.replay.gap == pytest.approx(robust(found, TWIN, *REPLAY).mean() - robust(found, "int8", *REPLAY).mean())


def test_a_float_engine_has_two_levels_and_no_note(tmp_path: Path) -> None:
    (other,) = decompositions(matrix(tmp_path, (TWIN, "other")), ["other"], EPS, 0.02, whole=False)
    assert [[level.name for level in one.levels] for one in other.waterfalls] == [["twin", "engine"]] * 2 and other.note == ""
    assert other.waterfalls[1].levels[1].lost == other.adaptive
