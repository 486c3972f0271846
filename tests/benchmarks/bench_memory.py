"""Does the memory of `harness bench` grow with the number of images?

    python tests/benchmarks/bench_memory.py [--size 32 --size 224] [--more 10000 --more 50000]

A network of two small convolutions and random images, attacked with FGSM from S1 and S3 on the device null. By default 1,000, 10,000 and
50,000 images of 32 px, and 1,000 and 5,000 of 224 px. Peak resident memory of the main process, and of it and its workers together. Limit:
1.3 times what 1,000 images of the same size take, plus the bytes of the further images in the file. Takes an hour. Not a pytest test.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import machine_line
from torch import nn

LIMIT, BASE = 1.3, 1000
MORE = {32: (10_000, 50_000), 224: (5_000,)}
EVERY_S = 0.05
MIB = 2**20


@dataclass(frozen=True)
class Peak:
    """Bytes of the main process, and of all processes; processor seconds of all that ended."""

    main: int
    all: int
    cpu_s: float


def make(folder: Path, size: int, n: int) -> tuple[Path, Path]:
    """A network, and the .npz of n images that it has right and the quarter more that is set aside and not attacked."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10)
    ).eval()
    model, data = folder / f"net{size}.pt2", folder / f"{size}-{n}.npz"
    shape = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, size, size),), dynamic_shapes=shape), model)
    images = np.random.default_rng(0).integers(0, 256, (n * 4 // 3, size, size, 3), dtype=np.uint8)
    with torch.no_grad():
        labels = [net(torch.from_numpy(part).permute(0, 3, 1, 2) / 255).argmax(1) for part in np.array_split(images, len(images) // 100)]
    np.savez(data, images=images, labels=torch.cat(labels).numpy())
    return model, data


def processes(root: int) -> dict[int, int]:
    """Resident bytes of a process and of all that descend from it, by number."""
    parents, resident = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            resident[int(entry.name)] = int((entry / "statm").read_text().split()[1]) * resource.getpagesize()
            parents[int(entry.name)] = int(parent)
        except (OSError, IndexError):
            continue  # it ended while it was looked at
    family, before = {root}, 0
    while len(family) > before:
        before = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return {number: resident[number] for number in family & resident.keys()}


def peak(folder: Path, size: int, n: int) -> Peak:
    """Of one run."""
    model, data = make(folder, size, n)
    command = [sys.executable, "-m", "harness", "bench", "--device", "null", "--model", model, "--data", data, "--attack", "fgsm"]
    command += [
        "--eps",
        "1/255",
        "--samples",
        str(n),
        "--batch",
        "1",
        "--source",
        "S1",
        "--source",
        "S3",
        "--out",
        folder / f"run-{size}-{n}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    main = everyone = 0
    before = os.times()
    while process.poll() is None:
        resident = processes(process.pid)
        main, everyone = max(main, resident.get(process.pid, 0)), max(everyone, sum(resident.values()))
        time.sleep(EVERY_S)
    data.unlink()
    if process.returncode not in (0, 3):  # a network of random weights is rarely trusted
        raise SystemExit(f"the bench of {n} images of {size} px ended with {process.returncode}")
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Peak(main, everyone, spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, action="append", choices=list(MORE))
    parser.add_argument("--more", type=int, action="append", help=f"numbers of images to compare with {BASE}")
    given = parser.parse_args()
    print(machine_line(1))
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for size in given.size or MORE:
            base = peak(Path(folder), size, BASE)
            seconds = f"{base.cpu_s:.0f} processor seconds"
            print(f"{size} px, {BASE:,} images: {base.main // MIB:,} MiB, with workers {base.all // MIB:,} MiB, {seconds}", flush=True)
            for n in given.more or MORE[size]:
                found, images = peak(Path(folder), size, n), (n - BASE) * 4 // 3 * size * size * 3
                for who, own, less in (("main process", found.main, base.main), ("with workers", found.all, base.all)):
                    limit = LIMIT * less + images
                    missed += own > limit
                    verdict = "ok" if own <= limit else "MISSED"
                    against = f"{own // MIB:,} MiB, limit {limit / MIB:,.0f} MiB, {found.cpu_s:.0f} processor seconds"
                    print(f"{size} px, {n:,} images, {who}: {against}  {verdict}", flush=True)
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
