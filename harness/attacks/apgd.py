"""Auto-PGD (Croce and Hein, ICML 2020, arXiv:2003.01690, algorithm 1).

Its own code and not a library's, because an image must be able to leave between two steps: once every model that counts has been fooled on
it, the rest of its steps change nothing (`harness.stages.attack`). Held against `pyautoattack` by a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.attacks.search import Search, margins, project

MOMENTUM = 0.75  # alpha of the paper
ENOUGH_RISES = 0.75  # rho: with fewer successful steps since the last checkpoint the step size is halved
FIRST_PERIOD, SHORTENING, SHORTEST = 0.22, 0.03, 0.06  # of all steps: until the first checkpoint, less each time, at least
MOST_TARGETS = 9  # wrong classes that the targeted form aims at, the likeliest first
SHORT, NEAREST = 4, 2  # of its steps, a short run towards a class takes one in so many; so many classes get a whole run afterwards

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, classes), labels (n,)) -> (n,), to be maximised."""
Objective = Callable[[Tensor], Tensor]
"""Iterates of the present rows, (n, c, h, w) -> (n,), to be maximised; it asks the search."""


def apgd_ce(search: Search, *, steps: int) -> None:
    """On the cross-entropy."""
    run(search, cross_entropy, steps)


def apgd_scaled(search: Search, *, steps: int) -> None:
    """On the cross-entropy of logits divided by a temperature, where logits are so large that its gradient vanishes."""
    run(search, scaled_cross_entropy, steps)


def apgd_probs(search: Search, *, steps: int) -> None:
    """On the margin of the probabilities, at the temperature of `apgd_scaled`."""
    run(search, probability_margin, steps)


def apgd_dlr(search: Search, *, steps: int) -> None:
    """On the difference-of-logits ratio."""
    run(search, dlr, steps)


def apgd_t(search: Search, *, steps: int) -> None:
    """Towards wrong classes, until the image leaves: a short run towards each, the one with the largest logit on the clean image first;
    then a whole run towards each of those that came nearest.

    AutoAttack makes a whole run towards each class. On images that withstand them all, where most of its time goes, this takes less than
    half as many steps, and finds the same (`tests/benchmarks/bench_standard.py`). With fewer than four classes the ratio has no targeted
    form: the untargeted margin, once.
    """
    with torch.no_grad():
        logits = search.module(search.images)
    classes = logits.shape[1]
    if classes < 4:
        run(search, dlr, steps)
        return
    targets = min(MOST_TARGETS, classes - 1)
    search.remember(logits.scatter(1, search.labels[:, None], -torch.inf).argsort(1, descending=True)[:, :targets])
    smallest = logits.new_full((len(logits), targets), torch.inf)
    for place in range(targets):
        run(search, _Towards(search, place, smallest), max(steps // SHORT, 1))
        search.checkpoint()
    nearest = smallest[search.rows].argsort(1)[:, :NEAREST]
    search.remember(search.remembered.gather(1, nearest))
    for place in range(NEAREST):
        run(search, _Towards(search, place, smallest), steps)
        search.checkpoint()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p[y], (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def scaled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p[y] at the temperature at which the image's logits have a standard deviation of 1, (n,)."""
    return cross_entropy(_scaled(logits), labels)


def probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other probability - p[y], (n,): PMA (Xie et al. 2024, arXiv:2411.15210).

    Its gradient weighs the rivals by their probabilities, where that of the margin of logits knows the largest alone. The paper takes the
    probabilities as they are, whose gradient is zero where logits saturate; here they are those at the temperature of `_scaled`.
    """
    return -margins(_scaled(logits).softmax(1), labels)


def _scaled(logits: Tensor) -> Tensor:
    """Logits of standard deviation 1, (n, classes).

    Gupta and Ajanthan (AAAI 2022, arXiv:2003.13511) choose a temperature for the whole network; here each image has its own.
    """
    return logits / logits.detach().std(1, keepdim=True).clamp_min(1e-12)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference-of-logits ratio, (n,); below the three classes it needs, the plain margin (section 4 of the paper)."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    if logits.shape[1] < 3:
        return other - own
    ordered = logits.topk(3, dim=1).values
    return _ratio(other - own, ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """The ratio towards the classes `target` (n,), (n,); needs four classes (appendix of the paper)."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    aim = logits.gather(1, target[:, None]).squeeze(1)
    ordered = logits.topk(4, dim=1).values
    return _ratio(aim - own, ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3]) + 1e-12)


def _ratio(difference: Tensor, of: Tensor) -> Tensor:
    """A ratio, (n,), whose gradient is that of the paper times `of`, image by image: its direction is what Auto-PGD takes.

    Where logits nearly tie, the gradient as it is would be of any size, and overflow in a network that computes in float16.
    """
    ratio = difference / of
    return ratio.detach() + (ratio - ratio.detach()) * of.detach()


@dataclass(frozen=True)
class _Towards:
    """The targeted ratio towards the class in one place of each image's order.

    `smallest`, (all, places), takes each row's smallest difference so far between the own logit and that of the class.
    """

    search: Search
    place: int
    smallest: Tensor

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        rows, target = self.search.rows, self.search.remembered[:, self.place]
        ahead = logits.detach().gather(1, torch.stack([labels, target], 1))
        self.smallest[rows, self.place] = torch.minimum(self.smallest[rows, self.place], ahead[:, 0] - ahead[:, 1])
        return targeted_dlr(logits, labels, target)


@dataclass
class _State:
    """What a run knows of each present image; rows leave together.

    `value` and `gradient` are those of `x`; `before` is the iterate before it; `rises` counts the steps since the last checkpoint that
    raised the loss; `reduced` says whether the last checkpoint halved the step size; `checked` is the best loss then.
    """

    x: Tensor
    before: Tensor
    value: Tensor
    gradient: Tensor
    best: Tensor
    best_value: Tensor
    best_gradient: Tensor
    size: Tensor
    rises: Tensor
    reduced: Tensor
    checked: Tensor

    def take(self, x: Tensor, value: Tensor, gradient: Tensor) -> None:
        """One more iterate."""
        self.rises = self.rises + (value > self.value)
        self.before, self.x, self.value, self.gradient = self.x, x, value, gradient
        better = value > self.best_value
        rows = better.view(-1, 1, 1, 1)
        self.best_value = torch.where(better, value, self.best_value)
        self.best, self.best_gradient = torch.where(rows, x, self.best), torch.where(rows, gradient, self.best_gradient)

    def halve(self, period: int) -> None:
        """Halve the step size, and go back to the best iterate, where the last `period` steps brought too little (conditions 1 and 2)."""
        stuck = (self.rises <= ENOUGH_RISES * period) | (~self.reduced & (self.checked >= self.best_value))
        rows = stuck.view(-1, 1, 1, 1)
        self.size = torch.where(stuck, self.size / 2, self.size)
        self.x, self.gradient = torch.where(rows, self.best, self.x), torch.where(rows, self.best_gradient, self.gradient)
        self.value = torch.where(stuck, self.best_value, self.value)
        self.reduced, self.checked, self.rises = stuck, self.best_value.clone(), torch.zeros_like(self.rises)

    def keep(self, rows: Tensor | None) -> None:
        """Go on with these rows alone."""
        for field in fields(self) if rows is not None else ():
            setattr(self, field.name, getattr(self, field.name)[rows])


def run(search: Search, loss: Loss, steps: int, *, size: float = 2.0) -> None:
    """One run on a loss of the target's logits; see `climb`."""
    climb(search, lambda x: loss(search.ask(x), search.labels), steps, size=size)


def climb(search: Search, objective: Objective, steps: int, *, size: float = 2.0) -> None:
    """One run, whose first step has the size `size` times the radius. Images may leave at its own checkpoints."""
    if not len(search.rows):
        return
    x = search.start(touching=True)
    value, gradient = _evaluate(objective, x)
    state = _State(
        x=x, before=x, value=value, gradient=gradient, best=x, best_value=value, best_gradient=gradient,
        size=torch.full_like(value, size * search.eps), rises=torch.zeros_like(value), reduced=torch.ones_like(value, dtype=torch.bool),
        checked=value.clone(),
    )  # fmt: skip
    period, since = max(int(FIRST_PERIOD * steps), 1), 0
    for step in range(steps):
        near = partial(project, clean=search.images, eps=search.eps)
        ahead = near(state.x + state.size.view(-1, 1, 1, 1) * state.gradient.sign())
        part = MOMENTUM if step else 1.0
        x = near(state.x + part * (ahead - state.x) + (1 - part) * (state.x - state.before))
        state.take(x, *_evaluate(objective, x, wanted=step < steps - 1))
        since += 1
        if since == period and step < steps - 1:
            state.halve(period)
            period, since = max(period - max(int(SHORTENING * steps), 1), max(int(SHORTEST * steps), 1)), 0
            state.keep(search.checkpoint())
            if not len(search.rows):
                return


def _evaluate(objective: Objective, x: Tensor, *, wanted: bool = True) -> tuple[Tensor, Tensor]:
    """The objective of each image, and its gradient with respect to the image (zeros where it is not `wanted`)."""
    if not wanted:
        with torch.no_grad():
            return objective(x), torch.zeros_like(x)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = objective(x)
        gradient = torch.autograd.grad(value.sum(), x)[0]
    return value.detach(), gradient
