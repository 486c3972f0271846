"""The workers of a Ray cluster attack the batches, one CPU each. Every node needs this package installed; no shared disk is needed.

What a set's batches share is put into the object store once, and a worker reads it once. A batch whose worker dies is begun anew. Judges
that are modules travel; an engine stays in this process, and workers ask it by mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import ray
import torch

from harness import __version__
from harness.answers import Model
from harness.attacks.batch import Attacked
from harness.attacks.executors.mailbox import AskedByMail, Mailbox, Question
from harness.attacks.target import ModuleTarget
from harness.attacks.work import Batch, Common, attacked
from harness.compute.allocator import keep_freed_memory
from harness.compute.placement import CPU, device
from harness.compute.ray_cluster import RETRIES, connect
from harness.errors import HarnessError, UsageError


def computes_with() -> str:
    """What the bytes of a set follow from beside its settings, as far as it can be told apart."""
    return f"edge-harness {__version__}, torch {torch.__version__} on {device().type}"


def perform(common: tuple[Any], batch: Batch, with_: str) -> Attacked:
    """On a worker: attack a batch.

    Args:
        common: the reference of what the set's batches share, in a tuple so that Ray does not read it anew for each batch.
        batch: its arrays may be read-only.
        with_: the driver's `computes_with`.

    Raises:
        UsageError: this worker's is another.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    if computes_with() != with_:
        raise UsageError(f"a node of the Ray cluster has {computes_with()}; here it is {with_}. Sets made there would be others.")
    return attacked(_read(common[0]), _writable(batch))


@lru_cache(maxsize=1)
def _read(reference: Any) -> Common:
    common: Common = ray.get(reference)
    return common


def _writable(batch: Batch) -> Batch:
    """The batch with arrays of its own: what Ray gives lies in memory that workers share."""
    own: dict[str, Any] = {name: value.copy() for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
    return replace(batch, **own)


class OnRay:
    """A Ray cluster: the one at `address` (or that this process is connected to already), else one on this machine.

    It is reached or started when the first set needs it.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._ours = False

    def connect(self) -> None:
        """Reach or start the cluster.

        Raises:
            UsageError: none answers, or it has nothing to compute on.
        """
        if not ray.is_initialized():
            connect(self.address, logs=False)
            self._ours = True
        for what in _needs():
            if ray.cluster_resources().get(what, 0) < 1:  # type: ignore[no-untyped-call,unused-ignore]
                raise UsageError(f"no node of the Ray cluster has a {what} to attack on")

    def run(self, common: Common, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Attacked]]:
        """See `Executor`. Raises UsageError too where the model cannot be sent, or a batch's workers died again and again."""
        self.connect()
        waiting = iter(batches)
        with closing(_Running(common)) as running:
            for number, batch in islice(waiting, running.room):
                running.start(number, batch)
            while running.batches:
                done = running.next()
                for number, batch in islice(waiting, 1):
                    running.start(number, batch)
                yield done

    def close(self) -> None:
        """Leave the cluster, which ends it where it is ours."""
        if self._ours:
            ray.shutdown()
            self._ours = False


class _Running:
    """The batches of one set that are on the cluster.

    Attributes:
        batches: their numbers, by Ray's reference.
        room: how many may be there at a time: two for each CPU, so that no worker waits for the next. While a worker waits for an engine's
            answer, Ray gives its CPU to another batch: with engines no more batches are there than CPUs.
    """

    def __init__(self, common: Common) -> None:
        self.batches: dict[Any, int] = {}
        self._engines = {judge.id: judge for judge in common.judges or () if not isinstance(judge, ModuleTarget)}
        actor: Any = ray.remote(num_cpus=0)(Mailbox)
        self._mailbox: Any = actor.remote() if self._engines else None
        self._question = [] if self._mailbox is None else [self._mailbox.next.remote()]
        self.room = int(ray.cluster_resources()["CPU"]) * (1 if self._engines else 2)  # type: ignore[no-untyped-call,unused-ignore]
        self._common = _put(replace(common, judges=None if common.judges is None else [self._travelling(j) for j in common.judges]))
        self._perform = ray.remote(max_retries=RETRIES, **_options())(perform)

    def _travelling(self, judge: Model) -> Model:
        return AskedByMail(judge.id, judge.sha256, self._mailbox) if judge.id in self._engines else judge

    def start(self, number: int, batch: Batch) -> None:
        """Send a batch."""
        self.batches[self._perform.remote((self._common,), batch, computes_with())] = number

    def next(self) -> tuple[int, Attacked]:
        """Wait for a batch, and answer the questions that come meanwhile."""
        while True:
            (ready, *_), _ = ray.wait([*self._question, *self.batches], num_returns=1)
            try:
                found = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, HarnessError):
                    raise error.cause from error
                raise
            except ray.exceptions.RayError as error:
                who = f"the worker of a batch died {1 + RETRIES} times" if ready in self.batches else "the mailbox of the engines died"
                raise UsageError(f"{who}: {str(error).splitlines()[0]}") from error
            if ready in self.batches:
                return self.batches.pop(ready), found
            self._answer(found)

    def _answer(self, question: Question) -> None:
        logits = self._engines[question.judge].logits(question.images)
        self._mailbox.answer.remote(question.number, logits)
        self._question = [self._mailbox.next.remote()]

    def close(self) -> None:
        """Give up what is unfinished: batches that are on the cluster end by themselves, those that ask an engine at their next question.

        None is cancelled: where that meets the end of the task, a check within Ray aborts this process (seen with Ray 2.60).
        """
        if self._mailbox is not None:
            ray.kill(self._mailbox)


def _put(common: Common) -> Any:
    try:
        return ray.put(common)
    except Exception as error:  # whatever the parts of somebody else's model raise
        why = str(error.__cause__ or error).splitlines()[0]  # Ray's own text is a page
        raise UsageError(f"the model cannot be sent to a Ray cluster: {why}. Use --executor local.") from error


def _needs() -> dict[str, int]:
    """Of one batch: a CPU, and where this process computes on a GPU, one too."""
    return {"CPU": 1} if device() == CPU else {"CPU": 1, "GPU": 1}


def _options() -> dict[str, Any]:
    if device() != CPU:
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": 1, "runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}  # some versions of Ray hide no GPU by themselves
