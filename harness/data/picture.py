"""One picture file as 8-bit pixels of a model's size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from harness.errors import UsageError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")  # whatever the suffix: some of Pillow's other readers start programs
LARGEST = 1 << 26  # pixels, of a file or after scaling

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1


@dataclass(frozen=True)
class Resize:
    """How images are scaled before their centre is cropped, as an architecture's weights were published with.

    Attributes:
        edge: pixels of the shorter edge afterwards; the longer one keeps its proportion, rounded down as torchvision does.
        bicubic: the filter; else bilinear.
        squash: the longer edge is scaled to `edge` too.
        origin: who published it, for a remark.
    """

    edge: int
    bicubic: bool
    squash: bool
    origin: str

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of an image once it is scaled."""
        short = min(width, height)
        return (self.edge, self.edge) if self.squash else (self.edge * width // short, self.edge * height // short)

    def __str__(self) -> str:
        edges = "both edges" if self.squash else "the shorter edge"
        return f"{edges} scaled to {self.edge} pixels ({'bicubic' if self.bicubic else 'bilinear'})"


def read_image(
    path: Path, shape: tuple[int, int, int] | None, seen: Counter[str] | None = None, resize: Resize | None = None
) -> NDArray[np.uint8]:
    """One image, (h, w, c). With `shape` (c, h, w): scaled, then cropped at the centre; an image of just h x w stays as it is.

    As torchvision's ImageFolder reads it, so that a published accuracy can be met: transparency is dropped and a camera's turn (EXIF
    orientation) is not applied. Samples of 16 bits become 8.

    Args:
        path: a file of one of `FORMATS`.
        shape: of the model's input.
        seen: counts what of the image is not used, and how it was brought to its size.
        resize: how it is scaled; without it until it just covers h x w (bilinear).

    Raises:
        UsageError: not an image, truncated, too large to be one, or of samples whose white is not known.
    """
    mode = "L" if shape is not None and shape[0] == 1 else "RGB"
    try:
        with Image.open(path, formats=FORMATS) as opened:
            _check_pixels(path, opened.size)
            _note(opened, seen)
            opened.info.pop("transparency", None)  # of a palette: Pillow would warn that it is dropped
            image = eight_bits(path, opened).convert(mode)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise UsageError(f"cannot read image {path}: {' '.join(str(error).split())}") from error
    if shape is not None:
        image = _brought_to(path, image, shape[1:], resize, seen)
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def eight_bits(path: Path, image: Image.Image) -> Image.Image:
    """The image with samples of 8 bits. Pillow itself clips grey of 16 bits at 255 (of colour it takes the upper 8).

    Raises:
        UsageError: floats, 32-bit or signed integers: the file does not say which number is white.
    """
    tags: Any = getattr(image, "tag_v2", {})
    bits = (tags.get(BITS_PER_SAMPLE) or (16,))[0]
    if image.mode == "F" or _signed(tags) or (image.mode == "I" and image.format == "TIFF"):
        kind = "floating-point" if image.mode == "F" else f"{'signed' if _signed(tags) else 'unsigned'} {bits}-bit"
        raise UsageError(
            f"image {path} has {kind} samples, and nothing says which value is white; expected 8 or 16 bits. "
            "Scale its values to 0..255 and save it as an 8-bit PNG."
        )
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image
    white = 2**bits - 1 if image.format == "TIFF" else 2**16 - 1  # Pillow scales what a PGM calls white to 16 bits
    values = np.asarray(image).astype(np.uint32)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _signed(tags: Any) -> bool:
    kinds = tags.get(SAMPLE_FORMAT, UNSIGNED)
    return any(kind != UNSIGNED for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def _note(image: Image.Image, seen: Counter[str] | None) -> None:
    if seen is None:
        return
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        seen["carry a camera's turn (EXIF orientation), which is not applied, as torchvision's ImageFolder does not"] += 1
    if getattr(image, "is_animated", False):
        seen["hold several pictures, of which the first is used"] += 1
    if image.has_transparency_data:
        seen["have an alpha channel, which is dropped, as torchvision's ImageFolder does"] += 1


def _brought_to(path: Path, image: Image.Image, shape: tuple[int, int], resize: Resize | None, seen: Counter[str] | None) -> Image.Image:
    """The image scaled, then cropped at its centre to (height, width) = shape; one of that size as it is."""
    height, width = shape
    if image.size == (width, height):
        return image
    scale = max(height / image.height, width / image.width)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    scaled = f"scaled until they just cover {height}x{width} (bilinear)"
    if resize is not None:
        size = resize.size(*image.size)
        scaled = f"{resize}, as {resize.origin} was published"
    _check_pixels(path, size, f" once it covers {height}x{width}")
    if seen is not None:
        seen[f"are brought to size: {scaled}, the centre of {height}x{width} cropped"] += 1
    bicubic = resize is not None and resize.bicubic
    image = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR)
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _check_pixels(path: Path, size: tuple[int, int], when: str = "") -> None:
    if size[0] * size[1] > LARGEST:
        raise UsageError(f"image {path} is {size[0]:,} pixels wide and {size[1]:,} high{when}; expected at most {LARGEST:,} pixels")
