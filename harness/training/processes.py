"""A training on several GPUs: as many processes, which torchrun starts.

    torchrun --nproc-per-node 4 -m harness train RECIPE --out DIR

Each process trains on its share of every batch; gradients are averaged (`torch.nn.parallel.DistributedDataParallel`), the first one writes.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn

from harness.compute.placement import device


def join() -> None:
    """Find the other processes that torchrun started, once; nothing where it did not."""
    if distributed.is_torchelastic_launched() and not distributed.is_initialized():
        if device().type == "cuda":
            torch.cuda.set_device(device())
        distributed.init_process_group("nccl" if device().type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)


def rank() -> int:
    """Which process this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def parallel(network: nn.Module) -> nn.Module:
    """The network as the loss calls it: it averages gradients with the other processes where there are some."""
    if count() == 1:
        return network
    # Buffers are averaged once an epoch instead: writing them between two calls of one loss would spoil its gradient.
    return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)


def total(number: float) -> float:
    """The sum of every process's number."""
    if count() == 1:
        return number
    numbers = torch.tensor(number, dtype=torch.float64, device=device())
    distributed.all_reduce(numbers)
    return float(numbers)


def first(number: float) -> float:
    """The first process's number."""
    return total(number if rank() == 0 else 0)


def average_buffers(network: nn.Module) -> None:
    """Give every process the mean of the batch norms' statistics."""
    if count() == 1:
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer /= count()


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        distributed.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does the body before the others: what it downloads, they find."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()
