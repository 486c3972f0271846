"""User data as a folder of images, one sub-folder per class, numbered in the order of their names as torchvision's ImageFolder does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.picture import SUFFIXES, Resize, read_image
from harness.data.remarks import order_remarks
from harness.errors import UsageError

# Parts of a data set, as its root holds them; the first that is there is the one to judge a network on.
PARTS = ("test", "testing", "val", "valid", "validation", "dev", "eval", "train", "training")

MOST_KINDS = 5  # of files left out, in one remark


@dataclass(frozen=True)
class Folder:
    """The images of a folder, not read yet; see `harness.data.dataset.Source`.

    Attributes:
        files, labels: of every image, in the order of their classes and names.
        shape: (channels, height, width) they are brought to; None keeps their own size, which must then be one.
        remarks: what was noticed while listing them.
        resize: how they are scaled; without it until they just cover `shape`.
    """

    name: str
    files: Sequence[Path]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int] | None
    remarks: tuple[str, ...]
    resize: Resize | None = None

    def read(self, *parts: NDArray[np.intp]) -> list[Dataset]:
        """As `Source` has it: every file is opened once for each part that has it.

        Raises:
            UsageError: an unreadable image, or (without `shape`) images of several sizes.
        """
        seen: Counter[str] = Counter()
        found = [self._images(part, seen) for part in parts]
        total = sum(map(len, parts))
        remarks = *self.remarks, *(f"{count:,} of {total:,} images {what}" for what, count in seen.items())
        return [Dataset(self.name, images, self.labels[part], self.class_names, remarks) for images, part in zip(found, parts, strict=True)]

    def _images(self, part: NDArray[np.intp], seen: Counter[str]) -> NDArray[np.uint8]:
        first = read_image(self.files[part[0]], self.shape, resize=self.resize)
        images = np.empty((len(part), *first.shape), np.uint8)
        for place, number in enumerate(part):
            image = read_image(self.files[number], self.shape, seen, self.resize)
            if image.shape != first.shape:
                raise UsageError(
                    f"{self.files[number]} is {image.shape}, {self.files[part[0]]} is {first.shape}; "
                    "images of several sizes need a model with a fixed input size"
                )
            images[place] = image
        return images


def open_folder(folder: Path, shape: tuple[int, int, int] | None, resize: Resize | None = None) -> Folder:
    """Every image of a folder that holds one folder per class; none is read yet. Links that lead out of it, hidden files, and files that
    are no image by their suffix are left out, and counted.

    Raises:
        UsageError: no class folder, a class without an image, or the root of a data set whose parts (train, val …) hold the classes.
    """
    root = folder.resolve()
    entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not hidden(entry.name))
    inside = [entry for entry in entries if entry.resolve().is_relative_to(root)]
    if not inside:
        raise UsageError(f"{folder} has no class folders{_but_links(len(entries))}; expected {folder}/CLASS/IMAGE.png")
    files: list[Path] = []
    labels: list[int] = []
    left_out, others = len(entries) - len(inside), Counter[str]()
    for label, entry in enumerate(inside):
        pictures = _pictures(entry, others)
        kept = [path for path in pictures if path.resolve().is_relative_to(root)]
        if not kept:
            raise UsageError(
                f"{entry} holds no image ({', '.join(sorted(SUFFIXES))}){_but_links(len(pictures))}; remove the folder or fill it"
            )
        files += kept
        labels += [label] * len(kept)
        left_out += len(pictures) - len(kept)
    refuse_root(folder, inside, files)
    names = tuple(entry.name for entry in inside)
    remarks = *order_remarks(names), *nesting_remarks(inside, files)
    if left_out:
        remarks = *remarks, f"{left_out:,} links lead out of {folder} and were left out"
    if beside := sum(entry.is_dir() and hidden(entry.name) for entry in folder.iterdir()):
        others["hidden folders beside the class folders"] = beside
    if loose := sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir()):
        others["beside the class folders"] = loose
    if others:
        remarks = *remarks, f"files left out: {', '.join(f'{count:,} {what}' for what, count in others.most_common(MOST_KINDS))}"
    return Folder(root.name, files, np.array(labels), names, shape, remarks, resize)


def hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: its name begins with a dot, or a Mac put it into an archive."""
    return name.startswith(".") or name == "__MACOSX"


def _but_links(count: int) -> str:
    """That there are links which lead out of the data's folder, and are not followed."""
    return f" but links that lead out of the data's folder ({count:,}), which are not followed: copy what they name" if count else ""


def _pictures(folder: Path, others: Counter[str]) -> list[Path]:
    """The images in a class folder and the folders in it, by name; `others` counts what is left out."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        if not path.is_file():
            others["links to folders, or to nothing"] += 1
        elif any(map(hidden, path.relative_to(folder).parts)):
            others["hidden"] += 1
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            others[f"of the suffix {path.suffix}" if path.suffix else "without a suffix"] += 1
    return found


def refuse_root(folder: Path, classes: Sequence[Path], files: Sequence[Path]) -> None:
    """Refuse a folder whose sub-folders are parts of a data set (train, val, test), or that holds one folder with the classes inside.

    Raises:
        UsageError: names the folder that is meant.
    """
    with_images = {path.parent for path in files}
    holders = [entry for entry in classes if entry not in with_images]  # their images are in folders of their own
    parts = [entry for entry in holders if entry.name.lower() in PARTS]
    if parts:
        best = min(parts, key=lambda entry: PARTS.index(entry.name.lower()))
        named = ", ".join(entry.name for entry in parts)
        raise UsageError(
            f"{folder} holds {named}: parts of a data set with class folders inside, not classes. Name the part to be judged: --data {best}"
        )
    if len(classes) == 1 and holders:
        inner = sorted(entry.name for entry in classes[0].iterdir() if entry.is_dir() and not hidden(entry.name))
        part = next((name for wanted in PARTS for name in inner if name.lower() == wanted), None)
        where = classes[0] if part is None else classes[0] / part
        raise UsageError(
            f"{folder} holds one folder, {classes[0].name}, with {len(inner)} folders inside ({', '.join(inner[:3])} …): "
            f"are those the classes? Name the folder that holds the class folders: --data {where}"
        )


def nesting_remarks(classes: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """Whether every class holds the same folders and no image beside them: then those may be the classes."""
    if len(classes) < 2 or any(path.parent in classes for path in files):
        return []
    inner = [{entry.name for entry in folder.iterdir() if entry.is_dir()} for folder in classes]
    if len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return []
    named = ", ".join(sorted(inner[0])[:3])
    return [f"every class folder ({classes[0].name}, {classes[1].name} …) holds the same folders ({named} …): are those the classes?"]
