"""The pictures of flipped images: clean, adversarial and their difference, as PNG data the page carries itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.answers import TWIN
from reports.flips import Flip, chosen
from reports.format import class_name, clean
from reports.run import CLEAN_IMAGES, Run

LARGEST_PX = 256


@dataclass(frozen=True)
class Answer:
    """What one model says to the attacked image."""

    model: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Picture:
    """One flip, ready to be shown. `panels`: (name, data URI) of the clean image, the adversarial image and the amplified difference."""

    panels: tuple[tuple[str, str], ...]
    label: str
    answers: tuple[Answer, ...]
    detail: str


def pictures(run: Run) -> list[Picture]:
    """The chosen flips whose images are stored."""
    flips, _ = chosen(run)
    stored = {(a.source, a.target, a.name, a.eps_exact): a.file for a in run.record.attacks}
    files = (stored.get((flip.source, flip.target, flip.attack, flip.eps)) for flip in flips)
    return [picture for flip, file in zip(flips, files, strict=True) if file is not None for picture in _picture(run, flip, file)]


def _picture(run: Run, flip: Flip, file: str) -> Iterator[Picture]:
    """`file`: of the set that the flip is from."""
    before, after = run.image(CLEAN_IMAGES, flip.index), run.image(file, flip.index)
    if before is None or after is None:
        return
    difference = after.astype(np.int16) - before
    largest = int(np.abs(difference).max())
    factor = max(127 // max(largest, 1), 1)
    amplified = np.clip(128 + factor * difference, 0, 255).astype(np.uint8)
    names = run.record.data.class_names
    radius = run.radius(flip.source, flip.attack, flip.eps)
    yield Picture(
        panels=(("clean", _data_uri(before)), ("attacked", _data_uri(after)), (f"difference × {factor}", _data_uri(amplified))),
        label=class_name(names, flip.label),
        answers=tuple(
            Answer(clean(model), class_name(names, said), said == flip.label)
            for model, said in {TWIN: flip.twin_prediction, **flip.answers}.items()
        ),
        detail=clean(f"image {flip.index} · {flip.source} {flip.attack}, radius {radius}, largest change {largest}/255"),
    )


def _data_uri(image: NDArray[np.uint8]) -> str:
    """A PNG of an (h, w, 1 or 3) image; a large one loses pixels, never gains smoothness."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if max(picture.size) > LARGEST_PX:
        picture.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
