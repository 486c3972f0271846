"""Engines opened anew at the end of a run, and asked once more: what they answer must not follow from what they were asked before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.host.session import Cost, EngineError, EngineSession
from harness.answers import TWIN, Column, Images, Index, Logits, Matrix
from harness.attacks.parts import open_images
from harness.models.predictions import logits
from harness.sources import deciding
from harness.sources.planned import Context
from harness.stages.engines import Engines

IMAGES, IMAGES_EMULATED = 96, 16  # an emulated CPU is some 30 times slower
BATCH = 7  # another one than any before


@dataclass(frozen=True, eq=False)
class Again:
    """What an engine answered in the run, float32 (n, classes), and opened anew, by the size of its requests, to the same images; or why
    it did not. `moved`: the twin's classes and its own, int64 (n,) each, of these images in another place, which it was never shown.
    """

    before: Logits
    now: Mapping[int, Logits]
    error: str = ""
    moved: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None


def ask_again(opened: Engines, context: Context, matrix: Matrix, lost: Collection[str], folder: Path) -> dict[str, Again]:
    """Open each engine that answered to everything once more, and ask about adversarial and clean images in another order.

    Adversarial images come first, so that an engine that knows its clean images has not seen them yet. Then all of them once more in
    requests of each size that was timed: an engine may have other kernels for it. One of which nothing is known but its answers is asked
    about images that are new to it before that, since it may know those of the test.

    Args:
        opened: the engines.
        context: of the run.
        matrix: their answers.
        lost: engines that gave up meanwhile.
        folder: the run's.
    """
    found = {}
    most, sizes = (IMAGES_EMULATED, ()) if context.subject.profile.emulated else (IMAGES, context.settings.batches)
    closed = {engine.name for engine in opened.all if engine.closed}
    for name, session in opened.sessions.items():
        if name in lost or not matrix.has(name):
            continue
        images, before = _sample(context, matrix, name, folder, most)
        moved = _moved(images, context.settings.seed) if name in closed else images[:0]
        try:
            answers, now = _fresh(session, moved, images, sizes)
        except EngineError as error:
            found[name] = Again(before, {}, str(error))
            continue
        named = logits(context.subject.twin.module, moved).argmax(1) if len(moved) else None
        found[name] = Again(before, now, moved=None if named is None else (named, answers.argmax(1)))
    return found


def _moved(images: Images, seed: int) -> Images:
    """Each image mirrored, and moved by up to an eighth of its sides: not one of the test's, nor near one."""
    draw = np.random.default_rng(seed)
    down, across = (int(draw.integers(1, max(side // 8, 1) + 1)) for side in images.shape[1:3])
    return np.roll(images[:, :, ::-1], (down, across), axis=(1, 2))


def _fresh(session: EngineSession, moved: Images, images: Images, timed: Sequence[int]) -> tuple[Logits, dict[int, Logits]]:
    """The answers of a second session beside the first; where the device does not hold two, in its place. Raises EngineError."""
    sizes = dict.fromkeys((min(BATCH, session.batch), *timed))
    try:
        return _asked(session, moved, images, list(sizes))
    except EngineError:
        session.close()
    return _asked(session, moved, images, list(sizes))


def _asked(session: EngineSession, moved: Images, images: Images, sizes: Sequence[int]) -> tuple[Logits, dict[int, Logits]]:
    """The answers of a new session, first to `moved`, then by the images in a request; the last is filled up. Raises EngineError."""
    with replace(session, batch=max(sizes), cost=Cost()) as fresh:
        fresh.check_like(session.hello)
        first, found = fresh.logits(moved), {}
        for size in sizes:
            rows = np.arange(-(-len(images) // size) * size) % len(images)
            parts = [fresh.logits(images[rows[start : start + size]]) for start in range(0, len(rows), size)]
            found[size] = np.concatenate(parts)[: len(images)]
        return first, found


def _sample(context: Context, matrix: Matrix, engine: str, folder: Path, most: int) -> tuple[Images, Logits]:
    """Images and the engine's answers to them: half of them adversarial, where there are so many, in an order drawn from the run's seed."""
    draw = np.random.default_rng(context.settings.seed)
    parts = []
    columns = deciding(matrix.columns, engine, context.subject.eps)
    for column in columns:
        rows = _telling(matrix, engine, column, draw)[: most // 2 // len(columns) + 1]
        stored = open_images(folder / column.record.file)
        images = [stored[row : row + 1] for row in rows.tolist()] or [stored[:0]]
        parts.append((np.concatenate(images), matrix.logits(engine, column)[rows]))
    rows = draw.permutation(len(context.subject.test))[: most - sum(len(images) for images, _ in parts)]
    parts.append((context.subject.test.images[rows], matrix.logits(engine)[rows]))
    return np.concatenate([images for images, _ in parts]), np.concatenate([answers for _, answers in parts])


def _telling(matrix: Matrix, engine: str, column: Column, draw: np.random.Generator) -> Index:
    """Rows of a set, first those that fool the twin and not the engine: there a memory would show."""
    rows = draw.permutation(len(column.index))
    holds = matrix.right(engine, column) & ~matrix.right(TWIN, column)
    return rows[np.argsort(~holds[rows], kind="stable")]
