"""Adversarial sets made on a Ray cluster have the bytes of those made here; workers that die and interruptions change nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import watched
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.answers import Images, Logits
from harness.attacks import parts
from harness.attacks.batch import Attacked, Panel
from harness.attacks.executors import Executor, check_executor, open_executor
from harness.attacks.executors.local import Local
from harness.attacks.sets import make_set
from harness.attacks.table import Attack, resolve
from harness.attacks.target import EngineLostError, ModuleTarget
from harness.attacks.work import Batch, Common
from harness.compute.ray_cluster import connect
from harness.errors import UsageError
from harness.records import AttackRecord
from harness.settings import Settings
from harness.spine import bench
from harness.stack import ImageStack

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'edge-harness[sweep]')")

pytestmark = pytest.mark.slow(60)

EPS = Fraction(8, 255)
INDEX = np.arange(5, 85)
BATCH, BATCHES = 8, 10


class Counting:
    """An executor that knows which batches it was given."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.numbers = executor, list[int]()

    def run(self, common: Common, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Attacked]]:
        given = list(batches)
        self.numbers = [number for number, _ in given]
        yield from self.executor.run(common, given)

    def close(self) -> None:
        self.executor.close()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the workers' watched attack writes."""
    return tmp_path_factory.mktemp("watched") / "log"


@pytest.fixture(scope="module")
def on_ray(log: Path) -> Iterator[Executor]:
    """Two workers of one CPU each."""
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_enable_metrics_collection": "0", "RAY_usage_stats_enabled": "0", "PYTHONPATH": here}.items():
            patch.setenv(name, value)
        patch.setenv(watched.FOLDER, str(log.parent))
        ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, logging_level="warning", log_to_driver=False)
        executor = open_executor("ray", None)
        yield executor
        executor.close()
        assert ray.is_initialized(), "the cluster is not the executor's"
        ray.shutdown()


def make(
    folder: Path, executor: Executor | None, attack: Attack = watched.ATTACK, model: nn.Module | None = None, **more: Any
) -> tuple[AttackRecord, ImageStack]:
    model = model or linear_model(3)
    place = folder / "adversarial"
    return make_set(
        model, linear_data(linear_model(3)), INDEX, attack, EPS, 0, source="S1", folder=place, batch=BATCH, executor=executor, **more
    )


def assert_equal(one: tuple[AttackRecord, ImageStack], other: tuple[AttackRecord, ImageStack]) -> None:
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1][:], other[1][:])


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd-ce-5", "cw-l2", "square-20"])
def test_sets_have_the_same_bytes(name: str, trained: tuple[nn.Module, Any], on_ray: Executor, tmp_path: Path) -> None:
    model, data = trained
    index = np.arange(0, 96, 2)
    one, other = (
        make_set(model, data, index, resolve(name), EPS, 3, source="S1", folder=tmp_path / who / "sets", batch=16, executor=executor)
        for who, executor in (("here", None), ("there", on_ray))
    )
    assert_equal(one, other)
    assert one[0].target_accuracy < 1


def test_each_batch_is_attacked_once_and_not_here(on_ray: Executor, log: Path, tmp_path: Path) -> None:
    log.unlink(missing_ok=True)
    make(tmp_path, on_ray)
    assert set(Counter(log.read_text().split()).values()) == {1} and len(log.read_text().split()) == BATCHES
    counting = Counting(on_ray)
    make(tmp_path, counting)
    assert counting.numbers == [], "a finished set was made again"


class Engine:
    """A judge that cannot be sent, and that this process's main thread alone may ask."""

    id, sha256 = "engine", "0" * 64

    def __init__(self, model: nn.Module, patience: int = 1 << 30) -> None:
        self.judge, self.patience = ModuleTarget(model), patience
        self.lock, self.asked = threading.Lock(), 0

    def logits(self, images: Images) -> Logits:
        assert threading.current_thread() is threading.main_thread()
        self.asked += 1
        if self.asked > self.patience:
            raise EngineLostError(self.id, "it died")
        return self.judge.logits(images)


def judged(folder: Path, executor: Executor, engine: Engine, name: str = "apgd-ce-10") -> tuple[AttackRecord, ImageStack]:
    """A set that the twin, its graph and an engine judge."""
    model = linear_model(3)
    judges = [ModuleTarget(model), ModuleTarget(linear_model(3, seed=1), "graph"), engine]
    fooled = np.random.default_rng(0).random((len(INDEX), 3)) < 0.2
    return make(folder, executor, resolve(name), model, panel=Panel(judges, fooled))


@pytest.mark.parametrize("name", ["apgd-ce-10", "pgd"])
def test_an_engine_of_the_panel_is_asked_here(name: str, on_ray: Executor, tmp_path: Path) -> None:
    engines = [Engine(linear_model(3, seed=2)) for _ in range(2)]
    one, other = judged(tmp_path / "here", Local(), engines[0], name), judged(tmp_path / "there", on_ray, engines[1], name)
    assert_equal(one, other)
    assert engines[0].asked == engines[1].asked > BATCHES


def test_an_engine_that_gives_up_ends_the_set_and_no_other(on_ray: Executor, tmp_path: Path) -> None:
    with pytest.raises(EngineLostError, match="it died"):
        judged(tmp_path / "lost", on_ray, Engine(linear_model(3, seed=2), patience=5))
    model = linear_model(3, seed=2)
    assert_equal(judged(tmp_path / "here", Local(), Engine(model)), judged(tmp_path / "there", on_ray, Engine(model)))


def test_a_worker_that_is_killed_costs_one_batch(on_ray: Executor, log: Path, tmp_path: Path) -> None:
    log.unlink(missing_ok=True)
    (log.parent / "die").touch()
    made = make(tmp_path / "there", on_ray)
    assert not (log.parent / "die").exists(), "no worker was killed"
    tries = Counter(log.read_text().split())
    assert sorted(tries.values()) == [1] * (BATCHES - 1) + [2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(watched.FOLDER, str(log.parent))
        assert_equal(made, make(tmp_path / "here", None))


def test_a_batch_whose_workers_die_again_and_again_is_one_clear_line(
    on_ray: Executor, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log.parent / "die").touch()
    monkeypatch.setattr("harness.attacks.executors.on_ray.RETRIES", 0)
    with pytest.raises(UsageError, match=r"^the worker of a batch died 1 times: .*"):
        make(tmp_path, on_ray)


def test_ctrl_c_keeps_the_finished_batches(on_ray: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, write = list[str](), parts.write

    def breaks(path: Path, arrays: Any) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(path.stem)
        write(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write", breaks)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "there", on_ray)
    assert sorted(path.stem for path in (tmp_path / "there").glob("adversarial/*.parts/*.npz")) == sorted(kept)
    counting = Counting(on_ray)
    resumed = make(tmp_path / "there", counting)
    assert counting.numbers == sorted(set(range(BATCHES)) - set(map(int, kept)))
    assert_equal(resumed, make(tmp_path / "whole", on_ray))


class Nan(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * torch.nan


class Bound(nn.Module):
    """Not to be sent."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.lock = inner, threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits


def test_what_a_worker_finds_wrong_is_one_clear_line(on_ray: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^the model's logits hold NaN"):
        make(tmp_path / "nan", on_ray, model=Nan())
    with pytest.raises(
        UsageError, match=r"^the model cannot be sent to a Ray cluster: cannot pickle .*lock.* object. Use --executor local.$"
    ):
        make(tmp_path / "lock", on_ray, model=Bound(linear_model(3)))
    monkeypatch.setattr("harness.attacks.executors.on_ray.computes_with", lambda: "torch 1.0")
    with pytest.raises(UsageError, match=r"a node of the Ray cluster has edge-harness .*; here it is torch 1.0"):
        make(tmp_path / "old", on_ray)


def test_a_bench_on_ray_has_the_sets_of_one_here(on_ray: Executor, tmp_path: Path) -> None:
    few = {"flavours": ("ort-int8",), "attacks": ("fgsm",), "samples": 4, "batches": ()}
    here = Settings(model="resnet8", device="null", eps="1/255", threads=1, **few)
    there = here.model_copy(update={"executor": "ray"})
    local, ray_ = (bench(settings, tmp_path / settings.executor, ["harness"]) for settings in (here, there))
    assert ray_.attacks == local.attacks and {attack.source for attack in local.attacks} >= {"S0", "S1", "S3", "gate"}
    assert ray_.settings["executor"] == "ray"


def test_an_executor_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--address auto is for --executor ray"):
        check_executor("local", "auto")
    with pytest.raises(UsageError, match=r"--address 127.0.0.1:1: no Ray cluster answers there: .*refused"):
        connect("127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    for refuse in (check_executor, open_executor):
        with pytest.raises(UsageError, match=r"--executor ray needs Ray: pip install 'edge-harness\[sweep\]'"):
            refuse("ray", None)
