"""User data as a folder of images, one sub-folder per class, numbered in the order of their names as torchvision's ImageFolder does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from harness.data.dataset import Dataset
from harness.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def list_images(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """(class names, [(file, label)]), both sorted. Symbolic links that lead out of the folder are left out.

    Raises:
        UsageError: no class folder, or a class without an image.
    """
    root = folder.resolve()
    classes = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.resolve().is_relative_to(root)
    )
    if not classes:
        raise UsageError(f"{folder} has no class folders; expected {folder}/CLASS/IMAGE.png")
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        found = [
            (path, label)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file() and path.resolve().is_relative_to(root)
        ]
        if not found:
            raise UsageError(f"{folder / name} holds no image ({', '.join(sorted(SUFFIXES))}); remove the folder or fill it")
        files += found
    return classes, files


def read_image(path: Path, shape: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    """One image, (h, w, c). With `shape` (c, h, w): scaled until it just covers h x w (bilinear), then cropped at the centre.

    Raises:
        UsageError: not an image, truncated, or too large to be one.
    """
    mode = "L" if shape is not None and shape[0] == 1 else "RGB"
    try:
        with Image.open(path) as opened:
            image = opened.convert(mode)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"cannot read image {path}: {error}") from error
    if shape is not None:
        _, h, w = shape
        scale = max(h / image.height, w / image.width)
        size = max(w, round(image.width * scale)), max(h, round(image.height * scale))
        image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - w) // 2, (size[1] - h) // 2
        image = image.crop((left, top, left + w, top + h))
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def read_folder(folder: Path, shape: tuple[int, int, int] | None) -> Dataset:
    """Every image of the folder, brought to the model's input size.

    Args:
        folder: holds one folder per class.
        shape: (channels, height, width) of the model's input; None keeps the images' own size, which must then be one.

    Raises:
        UsageError: no class folders, an empty class, an unreadable image, or (without `shape`) images of several sizes.
    """
    classes, files = list_images(folder)
    images: list[NDArray[np.uint8]] = []
    for path, _ in files:
        images.append(read_image(path, shape))
        if images[-1].shape != images[0].shape:
            raise UsageError(
                f"{path} is {images[-1].shape}, {files[0][0]} is {images[0].shape}; "
                "images of several sizes need a model with a fixed input size"
            )
    return Dataset(folder.resolve().name, np.stack(images), np.array([label for _, label in files]), tuple(classes))
