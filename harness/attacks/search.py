"""One batch of images under one attack: what every attack works with.

An attack asks for logits, and may stop at checkpoints, where images leave that need no further step. It answers nothing: each image's best
iterate is kept here, not the last and not the first that fools, since adversarial sets are replayed on engines, and an image that has only
just crossed the twin's boundary would flatter the engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.attacks.gradient import led_back
from harness.errors import UsageError

Look = Callable[["Search"], Tensor]
"""Asked at a checkpoint: bool (n,), which of the search's present rows go on."""


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """logit[y] - the largest other logit, per image: (n, classes) and (n,) -> (n,). Negative where the image fools.

    Finite for finite logits: the difference of two near the ends of their type is beyond it, and attacks multiply margins by 0.
    """
    own, ends = F.one_hot(labels, logits.shape[1]).bool(), torch.finfo(logits.dtype)
    return (logits[own] - logits.masked_fill(own, -torch.inf).amax(1)).clamp(ends.min, ends.max)


def image_seed(seed: int, attack: str, image: int) -> int:
    """The seed of an image under an attack, 63 bits: the same whoever else is in the batch, and on whichever machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{attack}/{image}".encode()).digest()[:8], "little") >> 1


class Search:
    """The images that are still under attack, and the best iterate of every image.

    Attributes:
        module: in evaluation mode, its parameters frozen.
        images: clean, float32 (n, c, h, w) in [0, 1]; those of the present rows.
        labels: int64 (n,), of the present rows.
        eps: the radius on that scale.
        seeds: of the random start of every row of the batch.
        rows: int64 (n,), which rows of the whole batch are present.
        best: (all, c, h, w), the best iterate of every row of the batch; at first the clean image.
        margin: (all,), its margin; infinite before anything was asked.
        queries: int64 (all,), how often the module was asked about a version of the image.
        warm: runs start at `first`.
    """

    def __init__(
        self, module: nn.Module, images: Tensor, labels: Tensor, eps: float, seeds: Sequence[int], *, first: Tensor | None = None,
        look: Look | None = None,
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            module: float images (n, c, h, w) to logits (n, classes).
            images, labels, eps: as the attributes, all rows of the batch.
            seeds: of the random start of each row.
            first: where runs start instead of at random, (n, c, h, w) inside the ball.
            look: see `Look`.
        """
        self.module, self.images, self.labels, self.eps = module, images, labels, eps
        self.rows = torch.arange(len(images), device=images.device)
        self.best = images.clone()
        self.margin = images.new_full((len(images),), torch.inf)
        self.queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        self.seeds, self._first, self._look, self._starts = list(seeds), first, look, 0
        self._kept: list[Tensor] = []

    def ask(self, images: Tensor, among: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """The module's logits, (n, classes), for iterates of the present rows; the better ones are kept.

        Args:
            images: (n, c, h, w).
            among: int64 (n,), their positions among the present rows; None: all of these.
            keep: bool (n,), which of the iterates may be kept; None: all.

        Raises:
            UsageError: logits or their gradient are NaN or infinite.
        """
        if images.requires_grad:
            images.register_hook(_refuse_non_finite)  # type: ignore[no-untyped-call]
        logits = led_back(self.module(images), images)
        if not logits.isfinite().all():
            raise UsageError(
                "the model's logits hold NaN or infinity under attack. Expected finite logits; check its weights and normalisation."
            )
        rows, labels = (self.rows, self.labels) if among is None else (self.rows[among], self.labels[among])
        self.queries[rows] += 1
        with torch.no_grad():
            kept = slice(None) if keep is None else keep
            self._keep(images.detach()[kept], logits[kept], rows[kept], labels[kept])
        return logits

    def _keep(self, images: Tensor, logits: Tensor, rows: Tensor, labels: Tensor) -> None:
        """Keep the iterates that are better than those before."""
        margin = margins(logits, labels)
        better = margin < self.margin[rows]
        where = rows[better]
        self.margin[where] = margin[better].to(self.margin.dtype)
        self.best[where] = images[better]

    @property
    def warm(self) -> bool:
        """See the class."""
        return self._first is not None

    def start(self, *, touching: bool = False) -> Tensor:
        """Where a run begins, (n, c, h, w): at `first`, or without it at random, uniform in the ball.

        Args:
            touching: scale the random start so that its largest entry is `eps`, as Auto-PGD does.
        """
        if self._first is not None:
            return self._first[self.rows]
        self._starts += 1
        shape = tuple(self.images.shape[1:])
        noise = torch.stack([_uniform(self.seeds[row], self._starts, shape) for row in self.rows.tolist()]).to(self.images.device)
        if touching:
            noise = noise / noise.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
        return (self.images + self.eps * noise).clamp(0, 1)

    def results(self) -> list[Tensor]:
        """What was found, each (all, c, h, w); the last one as the attack left it."""
        return [self.best]

    def remember(self, values: Tensor) -> Tensor:
        """A tensor with one row for each present image that loses its rows as images leave: the latest state is `remembered()`."""
        self._kept = [values]
        return values

    @property
    def remembered(self) -> Tensor:
        """What was last given to `remember`, for the present rows."""
        return self._kept[0]

    def checkpoint(self) -> Tensor | None:
        """Let images leave. Returns int64 (m,), the positions among the present rows that go on; None where all do."""
        if self._look is None or not len(self.rows):
            return None
        going = self._look(self)
        if bool(going.all()):
            return None
        keep = going.nonzero().squeeze(1)
        self.images, self.labels, self.rows = self.images[keep], self.labels[keep], self.rows[keep]
        self._kept = [values[keep] for values in self._kept]
        return keep

    def as_module(self, among: Tensor | None = None) -> nn.Module:
        """For a library that wants a module: whatever it forwards is an iterate, of all present rows or of those `among` them."""
        return _Asked(self, among)


class NearestSearch(Search):
    """Of a minimum-norm attack: each iterate is rounded to bytes and asked about as well, and the nearest that fools so is kept.

    Such an attack stops as soon as its floats have crossed the boundary. There the nearest byte image is often on the wrong side, while one
    that the search passed by earlier is not: rounding its result alone loses successes.

    Attributes:
        best: (all, c, h, w) on the uint8 grid; the clean image where none has fooled.
        distance: (all,), of `best` in the L2 norm, in levels of 1/255; infinite where none has fooled.
        left: (all, c, h, w), what the attack itself ended with.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.distance = self.images.new_full((len(self.images),), torch.inf)
        self.left, self._clean = self.images, self.images

    def results(self) -> list[Tensor]:
        """The nearest bytes that fooled, and the attack's own result."""
        return [self.best, self.left]

    def _keep(self, images: Tensor, logits: Tensor, rows: Tensor, labels: Tensor) -> None:
        rounded = on_grid(images.clamp(0, 1))
        distance = (255 * (rounded - self._clean[rows])).flatten(1).norm(dim=1)
        near = (distance < self.distance[rows]).nonzero().squeeze(1)
        if len(near):
            answers = logits[near].clone()
            moved = (rounded[near] != images[near]).flatten(1).any(1)  # bytes were asked about already
            if moved.any():
                self.queries[rows[near[moved]]] += 1
                answers[moved] = self.module(rounded[near[moved]]).to(answers.dtype)
            taken = near[answers.argmax(1) != labels[near]]
            self.best[rows[taken]], self.distance[rows[taken]] = rounded[taken], distance[taken]


class _Asked(nn.Module):
    def __init__(self, search: Search, among: Tensor | None) -> None:
        super().__init__()
        self.search, self.among = search, among
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """The search's logits."""
        return self.search.ask(images, self.among)


def project(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The nearest point in the L-inf ball around `clean` and in [0, 1]."""
    return torch.minimum(torch.maximum(x, clean - eps), clean + eps).clamp(0, 1)


def on_grid(x: Tensor) -> Tensor:
    """The nearest byte image, of pixels in [0, 1]."""
    return (255 * x).round() / 255


def halved(clean: Tensor, end: Tensor, times: int, crossed: Callable[[Tensor], Tensor]) -> Tensor:
    """Halve the way from the clean images to the ends, each (n, c, h, w), as often; the points asked about are byte images.

    Args:
        crossed: bool (n,), whether a point, (n, c, h, w), lies beyond the boundary that is looked for.

    Returns:
        The smallest share of the way that was seen beyond it, (n, 1, 1, 1); 1 where none was.
    """
    low, high = torch.zeros_like(end[:, :1, :1, :1]), torch.ones_like(end[:, :1, :1, :1])
    for _ in range(times if len(end) else 0):
        middle = (low + high) / 2
        beyond = crossed(on_grid(clean + middle * (end - clean)))[:, None, None, None]
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    return high


def _uniform(seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform in [-1, 1], of one image."""
    drawn = np.random.default_rng([seed, number]).random(shape, np.float32)
    return torch.from_numpy(2 * drawn - 1)


def _refuse_non_finite(gradient: Tensor) -> None:
    if not gradient.isfinite().all():
        raise UsageError(
            "the gradient of the model's loss holds NaN or infinity. Expected a finite gradient; "
            "likely a square root, logarithm or division at zero in the forward pass."
        )
