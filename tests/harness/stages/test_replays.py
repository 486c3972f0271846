"""Cross-engine replay, counted by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.answers import TWIN, Answers, Column, Matrix
from harness.stages.replays import replays

CLEAN = "clean"
# Who is right: four images clean, then under each set. Every label is 0.
RIGHT = {
    TWIN: {CLEAN: "1111", "on-twin": "0011", "on-a": "1111", "on-b": "1101"},
    "a": {CLEAN: "1110", "on-twin": "0111", "on-a": "0010", "on-b": "1110"},
    "a#2": {CLEAN: "1111", "on-twin": "1111", "on-a": "1011", "on-b": "1111"},
    "b": {CLEAN: "0111", "on-twin": "0101", "on-a": "0111", "on-b": "0001"},
}
SETS = (("on-twin", "S1", TWIN), ("on-a", "S3", "a"), ("on-b", "S4", "b"))


def matrix(folder: Path) -> Matrix:
    answers = Answers(folder)
    answers.begin(np.zeros(4, np.int64), np.arange(4))
    for model, sets in RIGHT.items():
        (answers.folder / model).mkdir()
        for name, bits in sets.items():
            right = np.array([bit == "1" for bit in bits])
            np.save(answers.folder / model / f"{name}.npy", np.stack([right, ~right], axis=1).astype(np.float32))
    records: list[Any] = [SimpleNamespace(set_sha256=name, source=source, target=target, norm="Linf") for name, source, target in SETS]
    return Matrix(answers, CLEAN, [Column(record, np.arange(4)) for record in records])


def test_each_pair_is_counted_over_what_both_have_right_and_the_first_is_fooled_by(tmp_path: Path) -> None:
    found = matrix(tmp_path)
    counted = {
        (r.made_for, r.shown_to): None if r.fooled is None else (r.fooled.correct, r.fooled.n)
        for r in replays(found, ["a", "a#2", "b"], found.columns)
    }
    assert counted == {
        (TWIN, "a"): (1, 2),  # images 0, 1 fool the twin; 0 fools a
        (TWIN, "a#2"): (0, 2),
        (TWIN, "b"): (0, 1),  # b has image 0 wrong when clean
        ("a", TWIN): (0, 2),  # images 0, 1 fool a; it has 3 wrong when clean
        ("a", "a#2"): (1, 2),
        ("a", "b"): (0, 1),
        ("a#2", TWIN): (0, 1),  # the graph's set is its own too: image 1
        ("a#2", "a"): (1, 1),
        ("a#2", "b"): (0, 1),
        ("b", TWIN): (1, 2),  # images 1, 2
        ("b", "a"): (0, 2),
        ("b", "a#2"): (0, 2),
    }
