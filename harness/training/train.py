"""The training loop: data in memory, a checkpoint each epoch, selection on held-out images."""

from __future__ import annotations

import math
import pickle
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from harness.compute.placement import device
from harness.data.dataset import Dataset
from harness.errors import UntrustedError, UsageError, out_of_memory, unreadable
from harness.models.packed import pack
from harness.models.zoo import ARCHITECTURES
from harness.progress import Track
from harness.training import processes
from harness.training.augmentation import Augmentation, augment
from harness.training.augmentation import check as check_variations
from harness.training.recipe import Recipe, Stage
from harness.training.regime import Regime
from harness.training.selection import Epoch, Fitted, held_out, split, summary

Tensors = tuple[Tensor, ...] | list[Tensor]

CHECKPOINT = "checkpoint.pt"  # in the folder of a stage
# What reading a damaged checkpoint raises.
DAMAGE = (
    zipfile.BadZipFile, pickle.UnpicklingError, OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
)  # fmt: skip


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential moving average whose decay rises to `decay` over the first steps, so that early averages forget the random start."""

    def average(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        if old[0].is_floating_point():
            seen = float(count)
            torch._foreach_lerp_(old, new, 1 - min(decay, (1 + seen) / (10 + seen)))
        else:
            torch._foreach_copy_(old, new)

    return average


def learning_rate(stage: Stage, step: int, steps: int) -> float:
    """The rate at `step` of `steps`, by the stage's schedule.

    One-cycle is a cosine from lr/25 up to lr and a cosine down to lr/250,000 (Smith and Topin, "Super-Convergence", 2018).
    """
    if stage.schedule == "steps":
        within = step * stage.epochs % (stage.period * steps) if stage.period else step * stage.epochs  # epochs, times `steps`
        return stage.lr * 0.1 ** sum(within >= milestone * steps for milestone in stage.milestones)
    peak = stage.warmup * steps if stage.schedule == "one-cycle" else 0
    start, end = stage.lr / 25, stage.lr / 250_000
    if step < peak:
        return start + (stage.lr - start) * (1 - math.cos(math.pi * step / peak)) / 2
    return end + (stage.lr - end) * (1 + math.cos(math.pi * (step - peak) / (steps - peak))) / 2


class Training:
    """One training of `network`, in place and resumable: its whole state is `state()` and comes back through `restore()`.

    Only parameters that require a gradient are trained. In several processes, each has one of these and trains on its share of a batch.

    Raises:
        UsageError: fewer images than the stage needs, or a batch that the processes cannot share.
    """

    def __init__(
        self, stage: Stage, data: Dataset, network: nn.Module, regime: Regime | None = None, augmentation: Augmentation | None = None
    ) -> None:
        processes.join()
        check(stage, data)
        self.augmentation = (augmentation or Augmentation()).of(stage)
        self.stage, self.data_sha256, self.regime = stage, data.sha256, regime or Regime()
        train, held = split(data.labels, stage.holdout)
        self.held, self.held_count = data.subset(held[processes.rank() :: processes.count()]), len(held)
        self.images, self.labels = torch.from_numpy(data.images[train]), torch.from_numpy(data.labels[train])
        self.generator = torch.Generator().manual_seed(stage.seed)
        self.network = network.to(device()).to(memory_format=torch.channels_last)
        self.called = processes.parallel(self.network)
        self.averaged = AveragedModel(self.network, multi_avg_fn=moving_average(stage.average), use_buffers=True)
        self.steps_per_epoch = len(train) // stage.batch
        self.optimizer = torch.optim.SGD(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=stage.lr,
            momentum=stage.momentum,
            weight_decay=stage.weight_decay,
            nesterov=stage.nesterov and stage.momentum > 0,
        )
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}

    def epoch(self) -> Epoch:
        """Train for one epoch, validate the averaged weights, and keep them if they are the best so far.

        Raises:
            UntrustedError: the loss is not finite.
        """
        stage, total = self.stage, 0.0
        order = torch.randperm(len(self.images), generator=self.generator)
        number = self.regime.epoch = len(self.history) + 1
        noise = self._noise(number)
        torch.manual_seed(-self._seed(number))  # of layers that draw at random, such as dropout: theirs is torch's own generator
        images = self.steps_per_epoch * stage.batch
        title = f"{stage.name}: epoch {number}/{stage.epochs}"
        with Track(title, stage.epochs * images, done=(number - 1) * images, summary=False, silent=processes.rank() > 0) as track:
            for step in range(self.steps_per_epoch):
                x, y = self.batch(order[step * stage.batch : (step + 1) * stage.batch])
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(stage, (number - 1) * self.steps_per_epoch + step, stage.epochs * self.steps_per_epoch)
                total += self.step(x, y, noise, f"epoch {number}, step {step}")
                track.advance(stage.batch, f"loss {total / (step + 1):.3f}")
        processes.average_buffers(self.network)
        processes.average_buffers(self.averaged)
        self.regime.after_epoch(self.network, number)
        return self._validate(number, processes.total(total) / processes.count() / self.steps_per_epoch)

    def _noise(self, number: int) -> torch.Generator:
        """What the objective draws from: the training's own generator, or in several processes one of each, made anew every epoch."""
        if processes.count() == 1:
            return self.generator
        return torch.Generator().manual_seed(self._seed(number))

    def _seed(self, number: int) -> int:
        """Of one epoch in this process."""
        return 1_000_003 * self.stage.seed + 1_009 * number + processes.rank()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """This process's share of the images at `index`, augmented, (n, c, h, w) in [0, 1], and their labels."""
        x, y = augment(self.images[index].permute(0, 3, 1, 2), self.generator, self.augmentation), self.labels[index]
        share = slice(processes.rank(), None, processes.count())
        return x[share].to(device()).float().div(255).contiguous(memory_format=torch.channels_last), y[share].to(device())

    def step(self, x: Tensor, y: Tensor, noise: torch.Generator, place: str) -> float:
        """One step of the optimizer on a batch; returns the loss.

        Raises:
            UntrustedError: it is not finite (`place` says where, for the reader).
        """
        stage = self.stage
        self.called.train()
        loss = self.regime.loss(self.called, x, y, stage, noise)
        if not math.isfinite(seen := loss.item()):
            raise UntrustedError(f"loss is {seen} in {stage.name}, {place}: lower lr ({stage.lr}) or set bf16 = false")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.averaged.update_parameters(self.network)
        return seen

    def _validate(self, number: int, loss: float) -> Epoch:
        seen = Epoch(number, loss, *held_out(self.averaged.module, self.held, self.held_count, self.stage, self.regime.queries))
        self.history.append(seen)
        if self.kept is seen:
            self.best = {k: v.clone().contiguous() for k, v in self.averaged.module.state_dict().items()}
        return seen

    @property
    def kept(self) -> Epoch:
        """The epoch so far whose averaged weights are `best`: the last, or the first of the best ones, as the regime says."""
        return self.history[-1] if self.regime.keep == "last" else max(self.history, key=self.score)

    @staticmethod
    def score(epoch: Epoch) -> float:
        """What selection maximises: robust accuracy where the objective is adversarial, else clean accuracy."""
        return epoch.clean if epoch.robust is None else epoch.robust

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: tensors, plain containers and numbers only."""
        return {
            "stage": self.stage.model_dump_json(),
            "data_sha256": self.data_sha256,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "regime": self.regime.state(),
            "generator": self.generator.get_state(),
            "best": self.best,
            "history": [(e.number, e.loss, e.clean, e.robust) for e in self.history],
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            UntrustedError: the checkpoint is damaged, or belongs to another stage or other data.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not look at the checksums
                    raise zipfile.BadZipFile("a checksum differs")
            self._restore(path, torch.load(path, weights_only=True, map_location="cpu"))
        except DAMAGE as error:
            if unreadable(error) or out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UntrustedError(f"{path} is damaged: {reason}. Delete it to train from the start, or choose another folder.") from error

    def _restore(self, path: Path, state: dict[str, Any]) -> None:
        # Read back, so that a field which a later version added counts with its default.
        if (stage := type(self.stage).model_validate_json(state["stage"])) != self.stage:
            raise UntrustedError(
                f"{path} was made with another stage: {_differences(stage, self.stage)}. Delete it, or choose another folder."
            )
        if state["data_sha256"] != self.data_sha256:
            raise UntrustedError(
                f"{path} was made with other data: {state['data_sha256']} then, {self.data_sha256} now. "
                "Delete it, or choose another folder."
            )
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.regime.restore(state["regime"])
        self.generator.set_state(state["generator"])
        self.best, self.history = state["best"], [Epoch(*e) for e in state["history"]]


def check(stage: Stage, data: Dataset) -> None:
    """Refuse what a stage cannot train on.

    Raises:
        UsageError: fewer images than it needs, or a batch that the processes cannot share.
    """
    if len(data) < 2 * stage.holdout:
        raise UsageError(f"stage {stage.name} holds out {stage.holdout} images; {data.name} has only {len(data)}")
    if stage.holdout < (classes := len(np.unique(data.labels))):
        raise UsageError(f"stage {stage.name} holds out {stage.holdout} images; expected at least one of each of the {classes} classes")
    if stage.batch > len(data) - stage.holdout:
        raise UsageError(f"stage {stage.name} has batches of {stage.batch}; {data.name} has {len(data) - stage.holdout} images to train on")
    if stage.batch % processes.count():
        raise UsageError(f"stage {stage.name} has batches of {stage.batch}, which {processes.count()} processes cannot share equally")


def allowed(stages: Sequence[Stage], data: Dataset, network: nn.Module | None = None, name: str = "") -> Augmentation:
    """Which variations of images the stages may use; see `harness.training.augmentation.check`. None is needed where nothing is trained."""
    if not stages:
        return Augmentation()
    train, held = split(data.labels, stages[0].holdout)
    return check_variations(stages, data.subset(train), data.subset(held), network, name)


def _differences(then: Stage, now: Stage) -> str:
    """The fields in which two stages differ."""
    before, after = then.model_dump(), now.model_dump()
    return ", ".join(f"{name} {before[name]} then, {after[name]} now" for name in after if before[name] != after[name])


def fit(
    stage: Stage, data: Dataset, network: nn.Module, out: Path, regime: Regime | None = None, augmentation: Augmentation | None = None
) -> Fitted:
    """Train `network` in place, a checkpoint after every epoch in `out/checkpoint.pt`; go on from it where there is one.

    `augmentation` says how images are varied where the stage does not; by default both ways.

    Returns:
        Every epoch's figures. The network holds the averaged weights of the best epoch on held-out images (or of the last, where the
        regime says so), and is in eval mode.

    Raises:
        UsageError: too few images.
        UntrustedError: the loss is not finite, or the checkpoint is damaged or of another stage.
    """
    out.mkdir(parents=True, exist_ok=True)
    run, checkpoint = Training(stage, data, network, regime, augmentation), out / CHECKPOINT
    if checkpoint.exists():
        run.restore(checkpoint)
    processes.wait()
    started, resumed = time.monotonic(), len(run.history)
    while len(run.history) < stage.epochs:
        run.epoch()
        if processes.rank() == 0:
            per_epoch = (time.monotonic() - started) / (len(run.history) - resumed)
            print(summary(stage, run.history, per_epoch, run.regime), file=sys.stderr, flush=True)
            save(run.state(), checkpoint)
    network.load_state_dict(run.best)
    network.eval()
    return Fitted(run.history, run.kept, run.held_count, run.regime.queries)


def nothing_to_resume(folder: Path) -> UsageError:
    """What `--resume` says where no epoch is finished."""
    return UsageError(f"--resume: no epoch was finished in {folder}. Without --resume the training starts.")


def judged_again(fitted: Fitted, stage: Stage, data: Dataset, network: nn.Module) -> Fitted:
    """`fitted` with the held-out figures of `network` as it is now, for one that was changed after the training."""
    _, held = split(data.labels, stage.holdout)
    clean, robust = held_out(network, data.subset(held[processes.rank() :: processes.count()]), len(held), stage)
    return replace(fitted, kept=replace(fitted.kept, clean=clean, robust=robust))


def save(state: dict[str, Any], checkpoint: Path) -> None:
    """Write a checkpoint whole, or leave the one before it.

    Raises:
        OSError: the disk is full.
    """
    temporary = checkpoint.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's own, about the place where the disk's error came
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
    temporary.replace(checkpoint)


def initial(recipe: Recipe, classes: int) -> nn.Module:
    """The untrained network of a recipe.

    Raises:
        UsageError: unknown architecture.
    """
    if recipe.arch not in ARCHITECTURES:
        raise UsageError(f"recipe {recipe.name}: unknown arch '{recipe.arch}'. Choices: {', '.join(ARCHITECTURES)}.")
    torch.manual_seed(recipe.seed)
    return ARCHITECTURES[recipe.arch](classes)


def train(
    recipe: Recipe, data: Dataset, out: Path, network: nn.Module | None = None, augmentation: Augmentation | None = None
) -> tuple[Path, Fitted]:
    """Train `network`, by default the initial one, by `recipe`; see `fit`.

    Returns:
        `out/NAME.safetensors`, packed, which the first process writes, and every epoch's figures.
    """
    network = network or initial(recipe, data.classes)
    fitted = fit(recipe, data, network, out, augmentation=augmentation)
    weights = out / f"{recipe.name}.safetensors"
    if processes.rank() == 0:
        pack(network.cpu().state_dict(), weights)
    return weights, fitted
