"""Images that are read when they are asked for are those that were written, and memory does not grow with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.attacks.parts import write
from harness.data.stored import StoredImages
from harness.errors import UsageError
from harness.stack import Chosen, Mixed, pieces

pytestmark = pytest.mark.slow(40)

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 5, 4, 3), dtype=np.uint8)
OF_ONE = IMAGES.shape[1:]


@pytest.fixture
def stored(tmp_path: Path) -> StoredImages:
    """In three files, one of them written by numpy, one with nothing in it."""
    write(tmp_path / "a.npz", {"images": IMAGES[:8], "right": np.ones(8, np.bool_)})
    np.savez(tmp_path / "b.npz", other=np.arange(3), images=IMAGES[8:9])
    write(tmp_path / "c.npz", {}, IMAGES[9:9])
    write(tmp_path / "d.npz", {"index": np.arange(14)}, Chosen(IMAGES, np.arange(9, 23)))
    return StoredImages([tmp_path / f"{name}.npz" for name in "abcd"], OF_ONE)


@pytest.mark.parametrize(
    "piece", [slice(None), slice(0, 3), slice(7, 10), slice(8, 9), slice(5, 99), slice(23, 30), slice(4, 2), slice(-2, None)]
)
def test_a_slice_is_that_of_the_array(stored: StoredImages, piece: slice) -> None:
    assert len(stored) == 23 and stored.shape == IMAGES.shape
    np.testing.assert_array_equal(stored[piece], IMAGES[piece])


def test_no_file_holds_no_image() -> None:
    assert StoredImages([], OF_ONE)[:].shape == (0, *OF_ONE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": IMAGES[:, :4]}, "expected uint8 images"),
        ({"images": IMAGES.astype(np.int8)}, "expected uint8"),
        ({"x": IMAGES}, "images"),
    ],
)
def test_other_images_are_refused(content: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UsageError, match=message):
        StoredImages([tmp_path / "a.npz"], OF_ONE)


def test_compressed_and_shortened_files_are_refused(stored: StoredImages, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "e.npz", images=IMAGES)
    with pytest.raises(UsageError, match="compressed"):
        StoredImages([tmp_path / "e.npz"], OF_ONE)
    (tmp_path / "a.npz").write_bytes(b"short")
    with pytest.raises(UsageError, match="shorter"):
        stored[:2]


def test_mixed_images_come_from_where_they_were_taken_last(stored: StoredImages) -> None:
    mixed, expected = Mixed(Chosen(IMAGES, np.arange(10))), IMAGES[:10].copy()
    for rows, stack, theirs in (([1, 4, 9], stored, [20, 8, 0]), ([4, 5], 255 - IMAGES, [2, 3])):
        mixed.take(np.array(rows), stack, np.array(theirs))
        expected[rows] = stack[:][theirs]
    np.testing.assert_array_equal(mixed[:], expected)
    np.testing.assert_array_equal(mixed[3:6], expected[3:6])
    assert mixed.shape == expected.shape and len(mixed) == 10


@pytest.mark.parametrize("size", [0, 60, 60 * 5, 10**9])
def test_pieces_are_whole_batches_and_cover_everything(size: int) -> None:
    found = list(pieces(IMAGES, size))
    assert np.concatenate([np.arange(23)[piece] for piece in found]).tolist() == list(range(23))
    steps = {piece.stop - piece.start for piece in found}
    assert len(steps) == 1
    step = steps.pop()
    assert step & (step - 1) == 0 and 60 * step <= max(size, 60)


PEAK = """
import resource, sys, pathlib
from fractions import Fraction
import numpy as np
from torch import nn
from harness.compute.allocator import keep_freed_memory
from harness.answers import Answers
from harness.attacks.parts import load_set
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.attacks.target import ModuleTarget
from harness.data.dataset import Dataset
from harness.models.predictions import logits
keep_freed_memory()
n, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
model = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Flatten(), nn.Linear(144, 5)).eval()
images = np.random.default_rng(0).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
data = Dataset("random", images, logits(model, images).argmax(1))
first = None
for source in ("S1", "S3"):
    record, made = make_set(
        model, data, np.arange(n), resolve("fgsm"), Fraction(1, 255), 0, source=source, folder=folder / "sets", batch=16, first=first
    )
    first, _, _ = load_set(folder / record.file, record.set_sha256)
    Answers(folder).ask(ModuleTarget(model), record.set_sha256, made)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_sets_take_no_memory_beside_the_images_they_are_made_of(tmp_path: Path) -> None:
    """In a process that keeps what is freed, as the program does. The images count once; where sets were held whole, it was 4.5 times."""

    def peak(n: int) -> int:
        done = subprocess.run([sys.executable, "-c", PEAK, str(n), str(tmp_path / str(n))], capture_output=True, text=True, check=True)
        return int(done.stdout)

    images_mib = 800 * 96 * 96 * 3 / 2**20
    assert peak(1000) - peak(200) < 3 * images_mib
