"""What reading, hashing, splitting and judging images takes beside the images themselves: pieces, never the set again in wider numbers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.attacks.grid import distances
from harness.audit.gates import calibration_disjoint
from harness.data.load import load_data

N, SIDE = 600, 96
ROOM = 14 << 20  # pieces of files and their wider numbers; the images are 16 MiB


def images(n: int = N) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def peak(work: Callable[[], Any]) -> int:
    """Bytes that were held at once while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def as_npz(folder: Path) -> str:
    np.savez(folder / "mine.npz", images=images(), labels=np.arange(N) % 3)
    return str(folder / "mine.npz")


def as_compressed_npz(folder: Path) -> str:
    np.savez_compressed(folder / "mine.npz", images=images(), labels=np.arange(N) % 3)
    return str(folder / "mine.npz")


def with_calibration(folder: Path) -> str:
    np.savez(folder / "mine.npz", images=images(), labels=np.arange(N) % 3, calibration_images=255 - images(9))
    return str(folder / "mine.npz")


def as_folder(folder: Path) -> str:
    for number, image in enumerate(images()):
        place = folder / "zoo" / f"class{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03d}.bmp")
    return str(folder / "zoo")


@pytest.mark.parametrize("write", [as_npz, as_compressed_npz, with_calibration, as_folder])
def test_images_are_held_once(write: Callable[[Path], str], tmp_path: Path) -> None:
    name = write(tmp_path)
    load_data(name, input_shape=(3, SIDE, SIDE), classes=3, seed=0)  # imports
    raw = N * SIDE * SIDE * 3
    assert peak(lambda: load_data(name, input_shape=(3, SIDE, SIDE), classes=3, seed=0)) < raw + ROOM
    few = peak(lambda: load_data(name, input_shape=(3, SIDE, SIDE), classes=3, seed=0, choose=lambda labels: np.arange(8)))
    assert few < raw * 0.25 + ROOM  # calibration images are one in five


def test_judging_a_set_takes_no_copy_of_it() -> None:
    clean, changed = images(), 255 - images()
    distances(clean[:2], changed[:2])
    assert peak(lambda: distances(clean, changed)) < ROOM
    assert peak(lambda: calibration_disjoint(clean[:9], clean)) < ROOM / 3  # thumbnails of 16 x 16


def test_distances_in_pieces_are_those_of_the_whole() -> None:
    clean, changed = images(200), images(400)[200:]
    whole = (changed.astype(float) - clean).reshape(200, -1)
    linf, l2 = distances(clean, changed)
    assert np.array_equal(linf, np.abs(whole).max(1))
    assert np.allclose(l2, np.sqrt((whole**2).sum(1)) / 255, rtol=1e-12)
    index = np.arange(0, 200, 2)
    assert all(np.array_equal(a, b[index]) for a, b in zip(distances(clean, changed[index], index), (linf, l2), strict=True))
    assert not any(part.any() for part in distances(clean, clean))
