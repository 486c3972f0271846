"""A file that could not be read, and a network that memory ended for, are not blamed for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.answers import Answers
from harness.attacks import parts
from harness.attacks.gradient import fast
from harness.errors import out_of_memory
from harness.models.probe import probe, takes
from tests.no_file_more import no_file_more


def test_a_set_that_cannot_be_read_is_not_damaged(tmp_path: Path) -> None:
    parts.write(tmp_path / "set.npz", {"labels": np.zeros(3)})
    with no_file_more(), pytest.raises(OSError, match="Too many open files"):
        parts.read(tmp_path / "set.npz")
    assert parts.read(tmp_path / "set.npz") is not None


def test_answers_that_cannot_be_read_are_neither_asked_anew_nor_damaged(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.begin(np.zeros(3, np.int64), np.arange(3))
    (answers.folder / "twin").mkdir()
    np.save(answers.folder / "twin" / "set.npy", np.zeros((3, 2), np.float32))
    with no_file_more():
        for read in (answers.subject, lambda: answers.get("twin", "set")):
            with pytest.raises(OSError, match="Too many open files"):
                read()
    assert answers.get("twin", "set") is not None


class Vast(nn.Module):
    """Asks for more memory than there is."""

    def forward(self, images: Tensor) -> Tensor:
        torch.zeros(1 << 50)
        return images.flatten(1)[:, :3]


def test_memory_that_ends_is_not_the_networks_fault() -> None:
    """It was said to want another input size, or to change something in place."""
    for ask in (
        lambda: probe(Vast(), (3, 8, 8), "vast"),
        lambda: takes(Vast(), (3, 8, 8)),
        lambda: fast(Vast(), torch.rand(2, 3, 8, 8)),
    ):
        with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
            ask()
        assert out_of_memory(caught.value)
