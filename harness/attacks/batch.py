"""One batch under one attack: what the attack finds is snapped to bytes, put into the ball and tested again, by everyone who counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from devices.host.errors import DeviceError
from devices.host.session import EngineError
from harness.answers import Model
from harness.attacks.access import Access
from harness.attacks.clean import Clean, Images, Labels, Margins, Mask, answers_to_clean, judge, judge_floats
from harness.attacks.gradient import frozen_eval, in_float32, place
from harness.attacks.grid import candidates, check_ball, distance_l2
from harness.attacks.search import NearestSearch, Search
from harness.attacks.table import Attack
from harness.attacks.target import answers_for
from harness.data.dataset import to_tensor
from harness.errors import HarnessError, UsageError

Rows = NDArray[np.intp]

# Bfloat16 cannot tell who is right this near the boundary (share of the clean image's margin): these images are attacked again in float32.
# In a cascade from where they are, with fewer steps: of so few images at a time, a whole attack takes a sixth of the time of all.
CLOSE = 0.1


@dataclass(frozen=True)
class Attacked:
    """A batch after the attack.

    Attributes:
        images: uint8 (n, h, w, c); those that were not attacked are the clean ones.
        attacked: a model that counts has the clean image right, and the caller asked for it.
        right: attacked, and the module still has it right.
        fooled: attacked, and the module has it right when clean and no more; one that it always had wrong is not among them.
        zero_gradient: attacked, and the loss gradient at the clean image is zero in more than 99 % of its entries.
        undone: attacked, and the attack's own image, in floats, fools, but no bytes near it do.
        queries: int64 (n,), how often the module was asked about the image or a version of it.
    """

    images: Images
    attacked: Mask
    right: Mask
    fooled: Mask
    zero_gradient: Mask
    undone: Mask
    queries: NDArray[np.int64]


@dataclass(frozen=True)
class Panel:
    """The models that must be fooled on an image before it may leave.

    Attributes:
        judges: asked with the bytes of every candidate; none: no image leaves, each is driven as far as the attack goes.
        fooled: bool (n, judges), those that an earlier set has fooled.
    """

    judges: Sequence[Model]
    fooled: Mask

    def rows(self, rows: Rows | slice) -> Panel:
        """The same judges for some of the images."""
        return Panel(self.judges, self.fooled[rows])


def attack_batch(
    module: nn.Module,
    gradients: nn.Module,
    images: Images,
    labels: Labels,
    attack: Attack,
    levels: int | None,
    seeds: Sequence[int],
    wanted: Mask,
    panel: Panel | None = None,
    first: Images | None = None,
    *,
    clean: Clean | None = None,
) -> Attacked:
    """Attack those of `images` that are `wanted`. Without a panel, those that `module` has right, to the attack's end.

    An image never ends with a larger margin than the clean image's, and with a panel never with fewer judges fooled.

    Args:
        module: in evaluation mode, what the attack is aimed at.
        gradients: the module, or a fast form of it, that the attack works on.
        images: uint8 (n, h, w, c).
        labels: int64 (n,).
        levels: radius in levels of 1/255, None for a minimum-norm attack. At 0 nothing is attempted.
        seeds: of each image's random start.
        wanted: bool (n,), the survivors of earlier attacks.
        panel: lets an image leave at the attack's checkpoints as soon as all of it is fooled.
        first: images inside the ball, where an attack on nearly the same network left off: gone on from there with fewer steps
            (`Attack.nearby`). Where that does not fool, the attack follows from random starts, but one that continues others.
        clean: what the module answers to `images`; None: it is asked.

    Raises:
        UsageError: the module's output is not finite logits (n, classes) for these labels, or a gradient is not finite.
        UntrustedError: an image left the ball.
    """
    exact = in_float32(gradients)
    with_gradient = attack.access is Access.GRADIENT
    clean = clean or answers_to_clean(module, images, labels, exact if with_gradient else None)
    right, margin = clean.right, clean.margin
    attacked = wanted & (right if panel is None else np.ones_like(right))
    zero, undone = np.zeros_like(attacked), np.zeros_like(attacked)
    result, still, queries = images.copy(), right & attacked, np.ones(len(images), np.int64)
    where = np.flatnonzero(attacked)
    if where.size and levels != 0:
        if with_gradient:
            zero[where] = clean.zero_gradient[where]
            queries[where] += 1
        best = _Best(
            module, images[where], labels[where], right[where], margin[where], levels, None if panel is None else panel.rows(where)
        )
        in_floats = np.zeros(len(where), dtype=bool)

        def attempt(form: nn.Module, rows: Rows, start: Images | None = None) -> None:
            x, y = to_tensor(best.clean[rows]).to(place(form)), torch.from_numpy(best.labels[rows]).to(place(form))
            begin = None if start is None else to_tensor(start[rows]).to(place(form))
            kind = Search if attack.bounded else NearestSearch

            def look(search: Search) -> Tensor:
                """Judge what the search believes to fool; go on with the images on which somebody holds out."""
                present = search.rows.cpu().numpy()
                believed = (search.margin[search.rows] < 0).cpu().numpy()
                if believed.any():
                    best.offer(rows[present[believed]], search.best[search.rows].cpu()[torch.from_numpy(believed)])
                return torch.from_numpy(~best.done[rows[present]]).to(search.rows.device)

            search = kind(form, x, y, (levels or 0) / 255, [seeds[i] for i in where[rows]], first=begin, look=look if best.judged else None)
            with frozen_eval(form):
                _let_search(attack if start is None else attack.nearby(), search)
            for found in search.results():
                best.offer(rows, found.cpu())
            near = best.right[rows] & (not attack.bounded or search.margin.cpu().numpy() < CLOSE * margin[where[rows]])
            queries[where[rows]] += near + search.queries.cpu().numpy()
            if near.any():
                ended = search.results()[-1].cpu()[torch.from_numpy(near)]
                in_floats[rows[near]] |= _fools_in_floats(module, best.clean[rows[near]], ended, best.labels[rows[near]], levels)

        everyone = np.arange(len(where))
        attempt(gradients, everyone, None if first is None else first[where])
        if first is not None and not attack.continues and (unmoved := everyone[best.open & (best.right | best.judged)]).size:
            attempt(gradients, unmoved)
        close = np.flatnonzero(best.open & best.right & (best.margin < CLOSE * margin[where]))
        if close.size and exact is not gradients:
            attempt(exact, close, best.images if best.judged else None)
        result[where], still[where], undone[where] = best.images, best.right, best.right & in_floats
        queries[where] += best.queries
    return Attacked(result, attacked, still, attacked & right & ~still, zero, undone, queries)


def _let_search(attack: Attack, search: Search) -> None:
    """Run an attack. Raises UsageError: one from outside this program ended with an error of its own."""
    try:
        attack.function(search)
    except (HarnessError, EngineError, DeviceError):
        raise
    except Exception as error:
        if attack.path.startswith("harness."):
            raise
        raise UsageError(f"the attack {attack.name} ({attack.path}) failed: {type(error).__name__}: {error}") from error


def _fools_in_floats(module: nn.Module, clean: Images, found: Tensor, labels: Labels, levels: int | None) -> Mask:
    """Whether what the attack found, float (n, c, h, w), put into the ball and the range of images, fools as it is."""
    x, radius = to_tensor(clean), 1.0 if levels is None else levels / 255
    return ~judge_floats(module, found.clamp(x - radius, x + radius).clamp(0, 1), labels)[0]


class _Best:
    """The bytes kept so far for each image under attack, at first the clean ones.

    Attributes:
        images, margin, right: of the bytes, by the module that is attacked.
        fooled: bool (n, judges), of the panel: by the kept bytes or by an earlier set.
        queries: int64 (n,), candidates that the module was asked about.
    """

    def __init__(
        self, module: nn.Module, clean: Images, labels: Labels, right: Mask, margin: Margins, levels: int | None, panel: Panel | None
    ) -> None:
        self.module, self.clean, self.labels, self.levels = module, clean, labels, levels
        self.images, self.margin, self.right = clean.copy(), margin.copy(), right.copy()
        self._alone, self._judges = panel is None, [] if panel is None else list(panel.judges)
        self.judged = bool(self._judges)
        self._before = np.zeros((len(clean), 0), np.bool_) if panel is None else panel.fooled
        self.fooled = self._before.copy()
        self.queries = np.zeros(len(clean), np.int64)

    @property
    def done(self) -> Mask:
        """Everyone of the panel is fooled; nowhere without judges."""
        return np.asarray(self.fooled.all(1) if self._judges else np.zeros(len(self.clean)), np.bool_)

    @property
    def open(self) -> Mask:
        """Something is left to win: someone of the panel holds out, or without a panel, the module is right."""
        return self.right if self._alone else ~self.done

    def offer(self, rows: Rows, adversarial: Tensor) -> None:
        """Take, for the images at `rows`, the best of the candidates near `adversarial`, float (n, c, h, w).

        That is one that fools (more of the panel, where there is one), of a minimum-norm attack the nearest that does, else the one with
        the smallest margin.
        """
        for candidate in candidates(self.clean[rows], adversarial.permute(0, 2, 3, 1).numpy(), self.levels):
            check_ball(self.clean[rows], candidate, self.levels)
            open_ = np.flatnonzero(self.open[rows] | self._nearer(rows, candidate))
            if not open_.size:
                continue
            todo, images = rows[open_], candidate[open_]
            right, margin = judge(self.module, images, self.labels[todo])
            self.queries[todo] += 1
            fooled = self._ask(todo, images, right)
            if not self._alone:
                more = fooled.sum(1) - self.fooled[todo].sum(1)
                better = (more > 0) | ((more == 0) & (margin < self.margin[todo]))
            else:
                better = ~right | (self.right[todo] & (margin < self.margin[todo]))
            taken = todo[better]
            self.images[taken], self.margin[taken], self.right[taken] = images[better], margin[better], right[better]
            self.fooled[taken] = fooled[better]

    def _ask(self, rows: Rows, images: Images, right: Mask) -> Mask:
        """Who of the panel is fooled by these bytes, or was before, bool (n, judges). The module's own answer is not asked for twice."""
        fooled = self._before[rows].copy()
        for place_, model in enumerate(self._judges):
            asked = ~fooled[:, place_]
            if answers_for(self.module, model):
                fooled[:, place_] |= ~right
            elif asked.any():
                fooled[asked, place_] = model.logits(images[asked]).argmax(1) != self.labels[rows[asked]]
        return fooled

    def _nearer(self, rows: Rows, candidate: Images) -> Mask:
        """Where a minimum-norm attack's candidate is nearer than what is kept; nowhere for one with a radius."""
        if self.levels is not None:
            return np.zeros(len(rows), dtype=bool)
        return distance_l2(self.clean[rows], candidate) < distance_l2(self.clean[rows], self.images[rows])
