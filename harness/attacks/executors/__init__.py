"""Who attacks the batches of a set: this process, or the workers of a Ray cluster. The bytes are the same. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.attacks.batch import Attacked
    from harness.attacks.work import Batch, Common

Name = Literal["local", "ray"]


class Executor(Protocol):
    """Takes batches, gives them back attacked."""

    def run(self, common: Common, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Attacked]]:
        """Attack numbered batches; each comes back with its number as soon as it is there, in any order.

        Whoever stops before the end closes the iterator, which gives up what is unfinished.

        Raises:
            UsageError, UntrustedError: see `harness.attacks.batch.attack_batch`.
            EngineLostError: a judge gave up.
        """

    def close(self) -> None:
        """Let go of whatever was taken."""


def check_executor(name: Name, address: str | None) -> None:
    """See before any work whether an executor can be had.

    Raises:
        UsageError: an address without Ray, Ray is not installed, or no cluster answers at `address`.
    """
    if name == "local":
        if address is not None:
            raise UsageError(f"--address {address} is for --executor ray")
        return
    from harness.compute.ray_cluster import check_ray

    check_ray()
    if address is not None:
        from harness.attacks.executors.on_ray import OnRay

        cluster = OnRay(address)
        try:
            cluster.connect()
        finally:
            cluster.close()


def open_executor(name: Name, address: str | None) -> Executor:
    """The executor of that name; `address` is the Ray cluster's. Nothing is started before the first set. Raises as `check_executor`."""
    if name == "local":
        from harness.attacks.executors.local import Local

        return Local()
    from harness.compute.ray_cluster import check_ray

    check_ray()
    from harness.attacks.executors.on_ray import OnRay

    return OnRay(address)
