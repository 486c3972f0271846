"""A Ray cluster as executor. Every node needs this package installed; no shared disk is needed.

A training takes `cpus` CPUs and `gpus` GPUs of any node, and sees no other GPU. A device is a custom resource of 1, `device:NAME`, on the
node that reaches it: so one job at a time is on a device. A bench takes all CPUs and GPUs of that node too, so that nothing else runs
beside its timing. Ray starts a task again whose worker died; on the same node it goes on where it was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray

from harness.compute.allocator import keep_freed_memory
from harness.compute.ray_cluster import RETRIES, connect
from harness.errors import UsageError
from harness.sweep.cache import Cache
from harness.sweep.executors import machine
from harness.sweep.tasks import RUNS, Bench, Outcome, Task, attempt, one_line

Files = dict[str, dict[str, bytes]]


def resource(device: str) -> str:
    """The name of a device's resource."""
    return f"device:{device}"


def perform(task: Task, files: Files, root: str | None, cpus: int | None) -> tuple[Outcome, bytes | None]:
    """On a worker: do a task and send its result.

    Args:
        task: what to do.
        files: what a file is to the task -> it and what lies beside it, by name.
        root: of the cache on the worker's machine, None for the default.
        cpus: threads.
    """
    keep_freed_memory()
    cache = Cache(Path(root)) if root else Cache.default()
    here = {what: str(cache.add_files(contents)) for what, contents in files.items()}
    outcome = attempt(task.moved(here), cache, cpus)
    return outcome, cache.pack(task.kind, task.key) if outcome.error is None else None


def with_card(path: Path) -> dict[str, bytes]:
    """A file by name and content, and its model card where it has one."""
    card = path.with_suffix(".json")
    return {file.name: file.read_bytes() for file in (path, card) if file.is_file()}


class OnRay:
    """A Ray cluster: an existing one at `address`, else one on this machine that ends with the sweep.

    Args:
        cache: where results are collected.
        cpus, gpus: of one training.
        device: that benches need.
        address: of the cluster's head, or `auto`.
        root: the cache's folder as every node shall have it.

    Raises:
        UsageError: there is no such cluster, or no node of it can do the work.
    """

    name = "ray"

    def __init__(self, cache: Cache, cpus: int | None, gpus: float, device: str, address: str | None, root: Path | None) -> None:
        self.cache, self.cpus, self.gpus, self.device = cache, cpus or len(os.sched_getaffinity(0)), gpus, device
        self.root = None if root is None else str(root.absolute())
        self.running: dict[Any, Task] = {}
        connect(address, resources={resource(device): 1})
        self.whole_node = self._check()
        self.place = str(ray.get(self._remote(RUNS, machine).remote()))

    def _check(self) -> dict[str, float]:
        """All of the node that has the device."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call,unused-ignore]
        holders = [node for node in nodes if node.get(resource(self.device), 0) >= 1]
        if not holders:
            raise UsageError(
                f"no node of the Ray cluster has the device {self.device}. Start one with: "
                f"ray start --address=HEAD --resources='{{\"{resource(self.device)}\": 1}}'"
            )
        if len(holders) > 1:
            raise UsageError(f"{len(holders)} nodes have the resource {resource(self.device)}; latencies of unlike machines do not compare")
        if not any(node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in nodes):
            most = max(node.get("CPU", 0) for node in nodes)
            raise UsageError(
                f"no node has {self.cpus} CPUs and {self.gpus:g} GPUs; the largest has {most:g} CPUs. Set [resources] in the spec."
            )
        return {"num_cpus": holders[0].get("CPU", 0), "num_gpus": holders[0].get("GPU", 0)}

    def _remote(self, kind: str, function: Any) -> Any:
        needs: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if kind == RUNS:
            needs = {**self.whole_node, "resources": {resource(self.device): 1}}
        elif not self.gpus:  # Ray hides GPUs that a task did not ask for in some versions only
            needs["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        return ray.remote(max_retries=RETRIES, **needs)(function)

    def start(self, task: Task, number: int) -> None:
        """See `Executor`; Ray keeps the order of its own queue."""
        files = {what: with_card(path) for what, path in task.files().items()}
        self.running[self._remote(task.kind, perform).remote(task, files, self.root, self.cpus)] = task

    def next(self) -> tuple[Task, Outcome]:
        """See `Executor`."""
        (reference, *_), _ = ray.wait(list(self.running), num_returns=1)
        task = self.running.pop(reference)
        try:
            outcome, archive = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # what `attempt` does not catch, such as a full disk where the task's files go
            return task, Outcome(f"on the node: {one_line(error.cause)}", str(error))
        except ray.exceptions.RayError as error:
            return task, Outcome(f"the worker died {1 + RETRIES} times: {str(error).splitlines()[0]}", str(error))
        if archive is not None:
            self.cache.unpack(task.kind, task.key, archive, anew=isinstance(task, Bench) and task.anew)
        return task, outcome

    def close(self) -> None:
        """End what runs, for Ray ends the tasks of a process that leaves, and the cluster if it is ours."""
        ray.shutdown()
