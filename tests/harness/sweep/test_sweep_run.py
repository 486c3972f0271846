"""A real sweep in miniature: interrupted, with a planted fault, finished, repeated, varied; then the same on a Ray cluster of two nodes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import harness
from safetensors.torch import save_file

from harness import cli
from harness.errors import UntrustedError, UsageError
from harness.models import probe
from harness.models.architectures import build
from harness.records import RunRecord
from harness.run import RunFolder
from harness.sweep.cache import Cache
from harness.sweep.cells import cells
from harness.sweep.executors import Executor, Local
from harness.sweep.figures import kept_row, made_by, survivors
from harness.sweep.plan import SweepPlan
from harness.sweep.record import CellRow, SweepRecord
from harness.sweep.run import Sweep, with_parents
from harness.sweep.spec import Spec, load_spec
from harness.sweep.tasks import NETWORKS, RUNS, STAGES, Outcome, Task, attempt
from harness.training.train import Training
from reports.markdown import document
from reports.run import Run
from reports.sweep import sections

pytestmark = pytest.mark.slow(100)

PARENT, CHILD = "resnet8", "resnet8-hydra-0.5-tiny-s0"


def run(spec: Spec, executor: Executor, out: Path, cache: Cache) -> SweepRecord:
    out.mkdir(parents=True, exist_ok=True)
    return Sweep(spec, cells(spec), SweepPlan(spec, cache, executor.place), executor, out, ["harness", "sweep"]).run()


class Interrupted(Local):
    """Ctrl-C in the second task."""

    done = 0

    def next(self) -> tuple[Task, Outcome]:
        if self.done == 1:
            raise KeyboardInterrupt
        self.done += 1
        return super().next()


@dataclass
class Story:
    """The same sweep again and again in one cache, and what each time came of it."""

    spec: Spec
    cache: Cache
    folder: Path
    interrupted: SweepRecord
    failed: SweepRecord
    finished: SweepRecord
    repeated: SweepRecord
    varied: SweepRecord
    made_before: dict[str, int]
    made_after: dict[str, int]


def made(cache: Cache) -> dict[str, int]:
    """Every finished result, and when it was made."""
    kinds = [path for path in cache.root.iterdir() if path.name in ("networks", "runs")]
    return {f"{kind.name}/{entry.name}": entry.stat().st_mtime_ns for kind in kinds for entry in kind.iterdir()}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Story:
    folder = tmp_path_factory.mktemp("story")
    spec, cache = load_spec(inputs), Cache(folder / "cache")
    with pytest.raises(KeyboardInterrupt):
        run(spec, Interrupted(cache, 1), folder / "out", cache)
    interrupted = SweepRecord.load(folder / "out")

    child = cells(spec)[1]
    task = SweepPlan(spec, cache, Local(cache, 1).place).make(child)
    assert task is not None
    checkpoint = cache.unfinished(STAGES, task.stages) / "prune" / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"damaged")
    failed = run(spec, Local(cache, 1), folder / "out", cache)
    checkpoint.unlink()
    finished = run(spec, Local(cache, 1), folder / "out", cache)

    before = made(cache)
    repeated = run(spec, Local(cache, 1), folder / "again", cache)
    after = made(cache)
    other = spec.model_copy(update={"methods": (), "bench": spec.bench.model_copy(update={"batches": (2,)})})
    varied = run(other, Local(cache, 1), folder / "varied", cache)
    return Story(spec, cache, folder, interrupted, failed, finished, repeated, varied, before, after)


def cell(record: SweepRecord, label: str) -> CellRow:
    return next(row for row in record.cells if row.label == label)


def test_ctrl_c_keeps_what_was_finished(story: Story) -> None:
    assert cell(story.interrupted, PARENT).status == "finished"
    assert cell(story.interrupted, CHILD).status == "to do"
    assert story.interrupted.exit_code == 3
    assert cell(story.failed, PARENT).run_cached, "it was benched twice"


def test_one_cells_failure_is_shown_and_stops_no_other(story: Story) -> None:
    broken = cell(story.failed, CHILD)
    assert broken.status == "failed" and "checkpoint" in str(broken.error)
    assert cell(story.failed, PARENT).status == "finished" and story.failed.exit_code == 3
    assert str(broken.error) in document("", "", sections(story.failed)).replace("\\", "")
    assert story.finished.exit_code == 0


def test_a_finished_sweep_has_every_figure(story: Story) -> None:
    parent, child = cell(story.finished, PARENT), cell(story.finished, CHILD)
    assert (parent.gamma, parent.method, child.method, child.rate, child.epochs) == (None, None, "hydra", "0.5", 2)
    assert child.gamma is not None and parent.size is not None and child.size is not None
    assert child.gamma["nonzero"] == pytest.approx(parent.size.nonzero / child.size.nonzero, abs=1e-3) and 1.9 < child.gamma["nonzero"] < 2
    (engine,) = child.engines
    assert engine.against_parent is not None and engine.against_parent.latency == {"1": pytest.approx(1.0)}
    assert story.finished.device.synthetic and [front.axis for front in story.finished.fronts] == ["size", "latency", "memory"]
    assert child.clean is not None and child.clean.n == 8


def test_networks_that_are_given_find_their_parent_by_their_card(story: Story) -> None:
    """A network of the zoo, listed as a model, stands beside its parent as if the sweep had made it."""
    child = cell(story.finished, CHILD)
    card = json.loads(Path(str(child.weights)).with_suffix(".json").read_text())
    found = made_by(card)
    assert (found["method"], found["rate"], found["parent_sha256"]) == ("hydra", "0.5", cell(story.finished, PARENT).sha256)
    bare = child.model_copy(update={"gamma": None, "engines": [e.model_copy(update={"against_parent": None}) for e in child.engines]})
    assert with_parents([bare, cell(story.finished, PARENT)]) == [child, cell(story.finished, PARENT)]
    assert with_parents([bare]) == [bare], "its parent is not in the sweep"


def test_the_figures_are_those_of_the_runs(story: Story) -> None:
    for row in story.finished.cells:
        assert row.run is not None
        record, seen = RunRecord.load(Path(row.run)), survivors(Run.open(Path(row.run)))
        (claim,) = record.claims
        assert row.robust == claim.twin_robust and row.engines[0].robust == claim.engine_robust and row.verdict == record.verdict
        assert seen is not None and claim.engine_robust is not None
        assert int(seen.engines["onnx-fp32"].sum()) == claim.engine_robust.correct


def test_gamma_is_counted_on_images_of_the_same_size(tmp_path: Path, spec_file: Path) -> None:
    """squeezenet1_1 is published at 224 pixels; this one is for 32."""
    torch.manual_seed(0)
    save_file(build("squeezenet1_1", 10).state_dict(), tmp_path / "mine.safetensors")
    hydra = 'name = "hydra"\nrates = [0.5]\nrecipe = "tiny.toml"'
    model = 'models = [{model = "mine.safetensors", arch = "squeezenet1_1", normalize = "imagenet"}]'
    text = spec_file.read_text().replace(hydra, 'name = "ptq-int8"').replace('models = ["resnet8"]', model)
    spec_file.write_text(text.replace('attacks = ["fgsm"]', "attacks = []"))
    cache = Cache(tmp_path / "cache")
    record = run(load_spec(spec_file), Local(cache, 1), tmp_path / "out", cache)
    parent, child = record.cells
    assert (parent.status, child.status) == ("finished", "finished"), child.error
    assert parent.size is not None and child.gamma is not None
    assert child.gamma["macs"] == child.gamma["parameters"] == 1
    assert parent.size.macs == probe.macs(build("squeezenet1_1", 10), (3, 32, 32))


def test_nothing_is_made_twice(story: Story) -> None:
    assert story.made_before == story.made_after
    assert all(row.run_cached and row.network_cached in (None, True) for row in story.repeated.cells)
    assert [row.robust for row in story.repeated.cells] == [row.robust for row in story.finished.cells]


def test_a_dry_run_says_what_is_there_and_makes_nothing(
    story: Story, inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(story.cache)
    words = ["sweep", str(inputs), "--cache", str(story.cache.root), "--dry-run", "--json"]
    for cache, network, bench in ((story.cache.root, "cached", "cached"), (story.folder / "empty", "to train", "to do")):
        words[3] = str(cache)
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        rows = json.loads(capsys.readouterr().out)
        assert rows == [{"cell": PARENT, "network": "given", "bench": bench}, {"cell": CHILD, "network": network, "bench": bench}]
    assert made(story.cache) == before and not (story.folder / "empty").exists()


def test_the_command_goes_on_with_what_is_there_and_one_process_at_a_time_is_at_its_folder(
    story: Story, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = made(story.cache), tmp_path / "out"
    words = ("sweep", str(inputs), "--cache", str(story.cache.root), "--out", str(out))
    assert harness(*words) == 0
    assert [row.label for row in SweepRecord.load(out).cells] == [PARENT, CHILD] and made(story.cache) == before
    capsys.readouterr()
    with RunFolder(out):
        assert harness(*words) == 2
    assert f"another harness is writing to {out}" in capsys.readouterr().err


def test_a_run_in_the_cache_that_is_damaged_or_anothers_is_not_taken(story: Story, tmp_path: Path) -> None:
    """Every later sweep ended at a damaged one, and figures of two networks whose runs had changed places were shown as each other's."""
    places = dict[str, Path]()

    def kept(cache: Cache, label: str, *, fresh: bool = False) -> CellRow | None:
        plan = SweepPlan(story.spec, cache, Local(cache, 1).place)
        own = next(cell for cell in cells(story.spec) if cell.label == label)
        network = plan.network(own)
        assert network is not None
        bench = plan.bench(own, network)
        places[label] = cache.place(RUNS, bench.key)
        return kept_row(plan, own, network, bench, fresh=fresh)

    def swap() -> None:
        places[PARENT].rename(tmp_path / "aside")
        places[CHILD].rename(places[PARENT])
        (tmp_path / "aside").rename(places[CHILD])

    def cut(pattern: str) -> None:
        for file in places[PARENT].glob(pattern):
            file.write_bytes(file.read_bytes()[:100])

    damages = (lambda: cut("record.json"), lambda: cut("answers/*/*.npy"), lambda: cut("adversarial/*.npz"), swap)
    for number, damage in enumerate(damages):
        cache = Cache(tmp_path / str(number))
        shutil.copytree(story.cache.root, cache.root)
        before = [kept(cache, label) for label in (PARENT, CHILD)]
        assert None not in before
        damage()
        assert kept(cache, PARENT) is None
        with pytest.raises((UsageError, UntrustedError)):
            kept(cache, PARENT, fresh=True)
    record = run(story.spec, Local(cache, 1), tmp_path / "out", cache)
    assert [(row.clean, row.robust) for row in record.cells] == [(row.clean, row.robust) for row in before if row is not None]


def test_a_latency_that_does_not_count_is_measured_again_when_asked(story: Story, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    shutil.copytree(story.cache.root / "runs", cache.root / "runs")
    plans = [SweepPlan(story.spec, cache, Local(cache, 1).place, again) for again in (False, True)]
    network = plans[0].network(cells(story.spec)[0])
    assert network is not None
    bench = plans[0].bench(cells(story.spec)[0], network)
    assert plans[1].run(bench) is not None, "every latency counts"
    folder = plans[0].run(bench)
    assert folder is not None
    record = json.loads((folder / "record.json").read_text())
    record["engines"][0]["latency"]["1"]["invalid"] = ["other programs took 87% of the CPU time (limit 25%): stop them"]
    (folder / "record.json").write_text(json.dumps(record))
    assert plans[0].run(bench) == folder
    assert plans[1].run(bench) is None and folder.exists(), "the old run stays until there is another"
    again = plans[1].bench(cells(story.spec)[0], network)
    assert again.anew and attempt(again, cache, 1).error is None
    assert plans[1].run(again) == folder, "its latency counts now"


def test_a_network_whose_process_died_before_its_place_was_taken_is_not_trained_again(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    task = SweepPlan(story.spec, story.cache, "here").make(cells(story.spec)[1])
    assert task is not None
    found = story.cache.find(NETWORKS, task.key)
    assert found is not None
    shutil.copytree(found, cache.unfinished(NETWORKS, task.key))
    monkeypatch.setattr("harness.sweep.tasks.compress", lambda *_, **__: pytest.fail("it was trained again"))
    assert attempt(task, cache, 1).error is None and cache.find(NETWORKS, task.key) is not None


def test_a_stage_is_trained_once_for_the_method_that_stops_there_and_for_the_whole(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, whole = Cache(tmp_path), cells(story.spec)[1]
    assert whole.request is not None
    stopped = replace(whole, label="stopped", request=whole.request.model_copy(update={"until": "prune"}))
    plan = SweepPlan(story.spec, cache, "here")
    tasks = [task for cell in (stopped, whole) if (task := plan.make(cell)) is not None]
    assert tasks[0].key != tasks[1].key and tasks[0].stages == tasks[1].stages

    trained, epoch = list[str](), Training.epoch

    def counted(training: Training) -> Any:
        trained.append(training.stage.name)
        return epoch(training)

    monkeypatch.setattr(Training, "epoch", counted)
    assert [attempt(task, cache, 1).error for task in tasks] == [None, None]
    assert trained == ["prune", "finetune"]
    assert not cache.unfinished(STAGES, tasks[1].stages).exists(), "checkpoints are kept for nobody"


def test_another_sweep_is_another_run_with_the_same_answers(story: Story) -> None:
    (parent,) = story.varied.cells
    assert not parent.run_cached, "other batch sizes are another run"
    assert parent.robust == cell(story.finished, PARENT).robust


def test_reports_are_rendered_for_people(story: Story) -> None:
    html, text = ((story.folder / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert html.count('<svg class="plot"') == 3 and "SYNTHETIC" in html
    assert f"Irregular sparsity bought nothing in latency: {CHILD} with onnx-fp32 1.00x" in text
    assert text.count("Rule. ") == 1


@dataclass
class OnCluster:
    """The sweep on a Ray cluster. `nodes`: their cache; `killed`: process ids."""

    record: SweepRecord
    nodes: Path
    killed: list[int]
    executor: Any


@pytest.fixture(scope="module")
def on_ray(story: Story, inputs: Path) -> Iterator[OnCluster]:
    """The same sweep on two nodes: one has the device, the other what Ray takes for a GPU. The training's worker is killed once."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install 'edge-harness[sweep]')")
    from ray.cluster_utils import Cluster

    from harness.sweep.on_ray import OnRay

    os.environ.update({"RAY_enable_metrics_collection": "0", "RAY_usage_stats_enabled": "0"})
    cluster = Cluster()
    memory = 80 * 2**20
    cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=memory, include_dashboard=False)
    cluster.add_node(num_cpus=2, resources={"device:null": 1}, object_store_memory=memory)
    folder = story.folder / "ray"
    here, there = Cache(folder / "driver"), folder / "nodes"
    killed: list[int] = []
    watch = threading.Thread(target=kill_once, args=(Cache(there), killed), daemon=True)
    executor = None
    try:
        executor = OnRay(here, 1, 0, "null", cluster.address, there)
        watch.start()
        record = run(story.spec, executor, folder / "out", here)
        yield OnCluster(record, there, killed, executor)
    finally:
        if executor is not None:
            executor.close()
        cluster.shutdown()


def kill_once(nodes: Cache, killed: list[int]) -> None:
    """Kill the worker that holds the first network, as soon as it has begun."""
    deadline = time.monotonic() + 300
    while not killed and time.monotonic() < deadline:
        for lock in (nodes.root / "locks").glob("networks-*"):
            begun = any((nodes.root / "unfinished").glob("stages-*/prune/checkpoint.pt"))
            if begun and (pid := lock.read_text()):
                os.kill(int(pid), signal.SIGKILL)
                killed.append(int(pid))
                return
        time.sleep(0.01)


def test_ray_gives_the_same_results_and_retries_a_killed_worker(story: Story, on_ray: OnCluster) -> None:
    record, nodes, killed = on_ray.record, on_ray.nodes, on_ray.killed
    assert len(killed) == 1, "no worker was killed: nothing was retried"
    assert record.exit_code == 0 and record.executor == "ray"
    for mine, other in zip(record.cells, story.finished.cells, strict=True):
        assert (mine.sha256, mine.clean, mine.robust, mine.gamma) == (other.sha256, other.clean, other.robust, other.gamma)
        one, two = (RunRecord.load(Path(str(row.run))) for row in (mine, other))
        assert [attack.set_sha256 for attack in one.attacks] == [attack.set_sha256 for attack in two.attacks]
    assert (nodes / "networks").is_dir(), "the work was done on the nodes"


def test_ray_gives_a_device_one_job_at_a_time(on_ray: OnCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three jobs that take one CPU each, on a node that has two."""
    import ray

    def span() -> tuple[float, float]:
        start = time.time()
        time.sleep(0.3)
        return start, time.time()

    assert on_ray.executor.whole_node == {"num_cpus": 2, "num_gpus": 0}, "nothing else runs beside a bench"
    monkeypatch.setattr(on_ray.executor, "whole_node", {"num_cpus": 1})
    spans = sorted(ray.get([on_ray.executor._remote(RUNS, span).remote() for _ in range(3)]))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_ray_gives_each_training_the_gpu_that_it_asks_for(on_ray: OnCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that ask for the one there is, the second waits."""
    import ray

    def seen() -> tuple[str | None, float, float]:
        start = time.time()
        time.sleep(0.3)
        return os.environ.get("CUDA_VISIBLE_DEVICES"), start, time.time()

    monkeypatch.setattr(on_ray.executor, "gpus", 1)
    one, two = sorted(ray.get([on_ray.executor._remote(NETWORKS, seen).remote() for _ in range(2)]), key=lambda span: span[1])
    assert (one[0], two[0]) == ("0", "0") and one[2] <= two[1]


def test_ray_shows_a_training_no_gpu_that_it_did_not_ask_for(on_ray: OnCluster) -> None:
    import ray

    def visible() -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    assert ray.get(on_ray.executor._remote(NETWORKS, visible).remote()) == ""


def test_ray_tells_what_went_wrong_outside_a_task(on_ray: OnCluster, story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray.executor, "root", "/dev/null/cache")
    task = SweepPlan(story.spec, story.cache, "here").make(cells(story.spec)[1])
    assert task is not None
    on_ray.executor.start(task, 0)
    _, outcome = on_ray.executor.next()
    assert outcome.error is not None and outcome.error.startswith("on the node: ") and "/dev/null/cache" in outcome.error


def test_ray_without_the_device_is_refused(on_ray: OnCluster, tmp_path: Path) -> None:
    from harness.sweep.on_ray import OnRay

    with pytest.raises(UsageError, match=r"no node of the Ray cluster has the device jetson-orin. Start one with: ray start"):
        OnRay(Cache(tmp_path), 1, 0, "jetson-orin", None, tmp_path)
    with pytest.raises(UsageError, match="no node has 64 CPUs and 0 GPUs; the largest has 2 CPUs"):
        OnRay(Cache(tmp_path), 64, 0, "null", None, tmp_path)
