"""Make `cifar10-sample` from the full CIFAR-10: `python -m harness.data.make_sample --train FILE.npz|FOLDER [--out FOLDER]`.

FILE.npz holds `train_images`, `train_labels`, `test_images`, `test_labels` (uint8 NHWC, the data set's own order); FOLDER is
where torchvision keeps its copy. The same input gives the same images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from harness.data import cifar10, sample
from harness.data.dataset import Dataset
from harness.data.npz import read_arrays
from harness.data.split import contents, stratified
from harness.errors import UsageError

N_TEST, N_CALIBRATION = 1000, 512
SEED = 1  # the first under which some of the images that foolbox ships are chosen: they check the pixels independently
SOURCE = {
    "name": "CIFAR-10",
    "url": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "citation": "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, University of Toronto, 2009",
    "licence": "none stated by its author; made available for research, with the request to cite the report",
}


def read_full(path: Path) -> tuple[Dataset, Dataset]:
    """(train, test) of the full data set.

    Raises:
        UsageError: not CIFAR-10 in one of the two forms.
    """
    if path.is_dir():
        return cifar10.read(path, train=True), cifar10.read(path, train=False)
    arrays = read_arrays(path)
    wanted = ("train_images", "train_labels", "test_images", "test_labels")
    if missing := [name for name in wanted if name not in arrays]:
        raise UsageError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    train, test = (
        Dataset(f"cifar10 ({part})", arrays[f"{part}_images"], arrays[f"{part}_labels"], cifar10.CLASSES) for part in ("train", "test")
    )
    return train, test


def make(train: Dataset, test: Dataset, out: Path) -> None:
    """Choose, interleave and write both parts and the index into `out`. No training image that equals a test image is taken."""
    out.mkdir(parents=True, exist_ok=True)
    fresh = np.flatnonzero(~np.isin(contents(train.images), contents(test.images)))
    chosen = stratified(test.labels, N_TEST, SEED)
    calibration = fresh[stratified(train.labels[fresh], N_CALIBRATION, SEED)]
    index = {
        "source": SOURCE,
        "seed": SEED,
        "order": "round-robin over the classes, random within a class: a prefix is stratified",
        "class_names": cifar10.CLASSES,
        "test": {"of": "test set", **sample.write_part(test.subset(chosen), chosen, 40, "test.png", out)},
        "calibration": {"of": "training set", **sample.write_part(train.subset(calibration), calibration, 32, "calibration.png", out)},
    }
    (out / sample.INDEX.name).write_text(json.dumps(index) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="full CIFAR-10: .npz or torchvision's folder")
    parser.add_argument("--out", type=Path, default=sample.FOLDER)
    options = parser.parse_args()
    make(*read_full(options.train), options.out)


if __name__ == "__main__":
    main()
