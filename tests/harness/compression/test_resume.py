"""A compression cut anywhere and begun again gives the weights of one that ran through, bit for bit, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.compression.compress import COPIES
from harness.compression.job import Job
from harness.compression.table import METHODS
from harness.models.probe import parameters
from harness.training.selection import Epoch
from harness.training.train import Training

pytestmark = pytest.mark.slow(40)

OVERHEAD = 200_000  # bytes of a checkpoint's names and headers

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ADMM": ("radmm", {"rate": "4x", "objective": "pgd-at", "steps": 2, "options": {"rho": 0.1, "growth": 1.5, "every": 1}}),
    "ADMM on filters": ("radmm", {"rate": "2x", "pattern": "filter", "options": {"every": 1}}),
    "HYDRA": ("hydra", {"rate": "0.8", "objective": "trades", "steps": 2}),
    "HYDRA on columns": ("hydra", {"rate": "0.5", "pattern": "column"}),
    "HYDRA 2:4": ("hydra", {"rate": "0.5", "pattern": "2:4"}),
    "masked": ("nm24", {"pattern": "2:4", "objective": "n-fgsm"}),
    "smaller": ("filters", {"rate": "2x"}),
    "DoReFa": ("lowbit", {"rate": "w2a2"}),
    "QAT": ("qat-int8", {}),
    "magnitude": ("magnitude", {"rate": "4x"}),
    "KD": ("kd", {}),
    "ARD": ("ard", {"objective": "pgd-at", "steps": 2}),
    "RSLAD": ("rslad", {"objective": "pgd-at", "steps": 2}),
    "IAD-I, past its warm-up": ("iad-1", {"objective": "pgd-at", "steps": 2, "options": {"warmup_share": 0.5}}),
    "IAD-II, past its warm-up": ("iad-2", {"objective": "pgd-at", "steps": 2, "options": {"warmup_share": 0.5}}),
}


def test_every_method_that_trains_is_cut_somewhere() -> None:
    assert {method for method, _ in KINDS.values()} == {name for name, method in METHODS.items() if method.stages}


def cut_at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Ctrl-C in that epoch of the whole compression, counted over its stages."""
    seen, real = [], Training.epoch

    def interrupted(training: Training) -> Epoch:
        seen.append(training)
        if len(seen) == epoch:
            raise KeyboardInterrupt
        return real(training)

    monkeypatch.setattr(Training, "epoch", interrupted)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_compression_goes_on_as_if_it_had_not_been_cut(
    kind: str, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, options = KINDS[kind]
    run, stages = METHODS[method].run, len(METHODS[method].stages)
    straight = make_job(method, out="straight", **options)
    expected = run(straight).state_dict()

    for cut in range(2, 2 * stages + 1, 2):  # in the second of the two epochs of every stage
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            cut_at(patch, cut)
            run(make_job(method, out=f"cut{cut}", **options))
        resumed = make_job(method, out=f"cut{cut}", **options)
        found = run(resumed).state_dict()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), f"cut in epoch {cut}: {name} differs"
        assert resumed.notes == straight.notes
        for file in resumed.out.rglob("checkpoint.pt"):
            assert file.stat().st_size < COPIES * 4 * parameters(resumed.network)[0] + OVERHEAD, "the check of the disk counts on less"
        assert resumed.fitted == straight.fitted
