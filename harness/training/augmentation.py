"""How training images are varied, and whether such images keep their label: a mirrored "turn left" does not."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn import functional as F

from harness.audit.statistics import no_information_rate
from harness.compute.placement import device
from harness.data.dataset import Dataset
from harness.data.load import stratified
from harness.models.zoo import ARCHITECTURES
from harness.training import processes
from harness.training.recipe import Stage

Answers = NDArray[np.int64]  # the class named for each image, (n,)

LOSS = 0.3  # of a class's images, or of all: so many must lose their label before a variation is left out
ALPHA = 0.05  # of the sign test over the images whose label changes, over all classes together
EXCHANGED = 0.01  # of the sign test over the images that, mirrored, are another class's
SURE = 0.001  # of the test that a network knows more than chance
JUDGED = 1000  # images that the check looks at, at most
PROBE_ARCH, PROBE_SIDE, PROBE_IMAGES, PROBE_STEPS, PROBE_EPOCHS, PROBE_BATCH, PROBE_LR = "resnet8", 32, 2000, 150, 8, 50, 0.1
PROBE_NAME = f"a small network ({PROBE_ARCH}, {PROBE_STEPS} steps at most) trained for this check"
OVERRULE = {"flip": "flip = true", "crop": "crop = 4"}
WHAT = {"flip": "mirrored", "crop": "shifted"}


@dataclass(frozen=True)
class Augmentation:
    """Which variations a training may use where its recipe does not say.

    Attributes:
        flip: mirror every second image.
        crop: pixels of zero padding that a crop of the image's size is taken from, anywhere; 0: none.
        judged_by: the network whose answers decided; None where nothing was checked.
        findings: a sentence for each variation that was left out, or could not be checked.
    """

    flip: bool = True
    crop: int = 4
    judged_by: str | None = None
    findings: tuple[str, ...] = field(default=())

    def of(self, stage: Stage) -> Augmentation:
        """As a stage's recipe says, and as here where it does not."""
        return replace(self, flip=self.flip if stage.flip is None else stage.flip, crop=self.crop if stage.crop is None else stage.crop)

    def card(self) -> dict[str, Any]:
        """For the model card."""
        return asdict(self)


AS_THEY_ARE = Augmentation(flip=False, crop=0)
PROBES: dict[tuple[str, int, Augmentation, int], nn.Module] = {}  # by the images' hash: a sweep trains a dozen networks on the same ones
VARIED = {"flip": replace(AS_THEY_ARE, flip=True), "crop": replace(AS_THEY_ARE, crop=Augmentation.crop)}


def augment(x: Tensor, generator: torch.Generator, how: Augmentation) -> Tensor:
    """Random horizontal flips and crops out of zero-padded images, each image its own. Shape (n, c, h, w) is kept."""
    n, _, h, w = x.shape
    flip = torch.rand(n, generator=generator) < 0.5
    if how.flip:
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
    if not how.crop:
        return x
    padded = F.pad(x, (how.crop,) * 4)
    top, left = torch.randint(0, 2 * how.crop + 1, (2, n), generator=generator)
    rows = (top[:, None] + torch.arange(h))[:, :, None]
    columns = (left[:, None] + torch.arange(w))[:, None, :]
    return padded[torch.arange(n)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def check(stages: Sequence[Stage], train: Dataset, held: Dataset, network: nn.Module | None, name: str) -> Augmentation:
    """Which of the variations that `stages` leave open keep the label of images; says so where one does not.

    A variation is suspected where `network`, which was trained for these classes, is right on clearly fewer of the images `held` when they
    are varied. That may also be the network's own narrowness; so a small network is trained on a few varied images of `train`: the
    variation is left out where that, on varied images, is clearly below its like trained and judged on the images as they are. Mirroring
    is left out for a few images too, where it makes them another class's (see `Judges.exchanged`). A small network takes the place of
    `network` where there is none, or it is no better than chance.

    Args:
        stages: of the training that follows.
        train: images to train on.
        held: others of the same kind.
        network: takes images of that size.
        name: of the network, for the reader.
    """
    open_ = [what for what in ("flip", "crop") if any(getattr(stage, what) is None for stage in stages)]
    if not open_:
        return Augmentation()
    judges = Judges(train, held.subset(stratified(held.labels, min(JUDGED, len(held)), 0)), network, name)
    found = judges.decide(open_)
    if processes.rank() == 0:
        for finding in found.findings:
            print(f"note: {finding}", file=sys.stderr)
    return replace(found, flip=bool(processes.first(found.flip)), crop=int(processes.first(found.crop)))


class Judges:
    """The networks whose answers decide; see `check`."""

    def __init__(self, train: Dataset, held: Dataset, network: nn.Module | None, name: str) -> None:
        self.train, self.held, self.network, self.name = train, held, network, name
        self.images = pixels(held)
        if network is None or not informed(answers(network, self.images), held):
            self.network, self.name = self.probe(AS_THEY_ARE), PROBE_NAME

    def probe(self, how: Augmentation, seed: int = 0) -> nn.Module:
        """A small network of the images to train on, varied as told; trained once in a process, however many trainings ask."""
        key = (self.train.sha256, self.train.classes, how, seed)
        if key not in PROBES:
            PROBES[key] = probe(self.train, how, seed)
        return PROBES[key]

    def decide(self, variations: Iterable[str]) -> Augmentation:
        """Which variations to leave out, and why."""
        assert self.network is not None  # noqa: S101  # __init__
        found, plain = Augmentation(judged_by=self.name), answers(self.network, self.images)
        if not informed(plain, self.held):
            unknown = f"whether mirrored and shifted images keep their label could not be checked: {self.name} answers at chance."
            return replace(found, findings=(f"{unknown} Both are used; a recipe may say flip = false and crop = 0.",))
        for what in variations:
            varied = answers(self.network, self.varied(what))
            suspects = self.lost(plain, varied, self.groups())
            sure = self.confirmed(what, suspects) if suspects else {}
            if sure or (what == "flip" and (sure := self.exchanged(plain, varied))):
                finding = (
                    f"{WHAT[what]} images do not keep their label ({next(iter(sure))}: {next(iter(sure.values()))}, by {self.name}): "
                    f"the training leaves them out. {OVERRULE[what]} in the recipe overrules this."
                )
                off = replace(found, flip=False) if what == "flip" else replace(found, crop=0)
                found = replace(off, findings=(*found.findings, finding))
        return found

    def varied(self, what: str) -> Tensor:
        """The images, all mirrored, or each shifted its own way."""
        return self.images.flip(3) if what == "flip" else augment(self.images, torch.Generator().manual_seed(0), VARIED["crop"])

    def confirmed(self, what: str, suspects: dict[str, str]) -> dict[str, str]:
        """Those of the suspected groups that a small network trained on varied images loses too; all where none can tell."""
        reference = answers(self.probe(AS_THEY_ARE), self.images)
        if not informed(reference, self.held):
            return suspects
        images = augment(self.images, torch.Generator().manual_seed(1), VARIED[what])
        still = self.lost(reference, answers(self.probe(VARIED[what]), images), self.groups())
        return {group: said for group, said in suspects.items() if group in still}

    def exchanged(self, plain: Answers, mirrored: Answers) -> dict[str, str]:
        """Whether mirroring makes some images those of another class, however few: the class that most of them are of, and how many.

        Such images have one label as they are and another when mirrored, for the judge (whose answers are given) and for a small network
        alike, both of which learnt from images as they are. Who trains on mirrored images gets both labels for either, and is wrong on
        one of the two; so of these images another small network, of images as they are, must be right on more than one of mirrored images
        is on both. The sign test, at the level `EXCHANGED`: neither of the two had a part in choosing the images, and what is only hard
        to tell is hard for both.
        """
        as_they_are, turned = self.images, self.varied("flip")
        changed = (plain == self.held.labels) & (mirrored != self.held.labels)
        if 0.5 ** changed.sum() <= EXCHANGED:
            witness = self.probe(AS_THEY_ARE, 1)
            changed &= (answers(witness, as_they_are) == plain) & (answers(witness, turned) == mirrored)
        if 0.5 ** changed.sum() > EXCHANGED:
            return {}
        few, labels = torch.from_numpy(changed), self.held.labels[changed]
        first = answers(self.probe(AS_THEY_ARE, 2), as_they_are[few]) == labels
        both = self.probe(VARIED["flip"])
        second = (answers(both, as_they_are[few]) == labels) & (answers(both, turned[few]) == labels)
        worse, better = int((first & ~second).sum()), int((second & ~first).sum())
        if worse <= better or binomtest(worse, worse + better, alternative="greater").pvalue > EXCHANGED:
            return {}
        most = max(self.groups().items(), key=lambda group: (group[1] & changed).sum() if group[0] != "all" else -1)[0]
        return {most: f"{worse} of {len(labels)} images that stand for another class when mirrored cannot be learnt so"}

    def groups(self) -> dict[str, NDArray[np.bool_]]:
        """All images, and those of each class, by its name."""
        labels, names = self.held.labels, self.held.class_names
        return {"all": np.ones(len(labels), bool)} | {(names[c] if names else f"class {c}"): labels == c for c in np.unique(labels)}

    def lost(self, before: Answers, after: Answers, groups: dict[str, NDArray[np.bool_]]) -> dict[str, str]:
        """Groups of which clearly fewer images are right afterwards, with how many.

        Paired: the sign test over the images that are right only once, and a loss of 30 points at least.
        """
        found = {}
        first, second = before == self.held.labels, after == self.held.labels
        for group, among in groups.items():
            worse, better = int((first & ~second)[among].sum()), int((second & ~first)[among].sum())
            if worse - better >= LOSS * among.sum():
                p = binomtest(worse, worse + better, alternative="greater").pvalue
                if p <= ALPHA / len(groups):
                    found[group] = f"{int(first[among].sum())} of {int(among.sum())} right, then {int(second[among].sum())}"
        return found


def informed(answered: Answers, held: Dataset) -> bool:
    """Whether answers are better than those of one who always says the most frequent class."""
    most = no_information_rate(held.labels, held.classes)
    return bool(binomtest(int((answered == held.labels).sum()), len(held), most, alternative="greater").pvalue <= SURE)


def answers(network: nn.Module, images: Tensor) -> Answers:
    """The classes (n,) that a network names for images, uint8 (n, c, h, w), wherever it lies."""
    network.eval()
    place = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return np.concatenate([network(scaled(part).to(place)).argmax(1).cpu().numpy() for part in batches(images)])


def pixels(data: Dataset) -> Tensor:
    """Its images, uint8 (n, c, h, w); no copy."""
    return torch.from_numpy(data.images).permute(0, 3, 1, 2)


def scaled(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return images.float().div(255)


def batches(images: Tensor) -> Iterator[Tensor]:
    """A hundred at a time."""
    return (images[start : start + 100] for start in range(0, len(images), 100))


class Probe(nn.Module):
    """A small network for images of any size: larger ones are reduced first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = ARCHITECTURES[PROBE_ARCH](classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) in [0, 1] -> logits (n, classes)."""
        if max(x.shape[2:]) > PROBE_SIDE:
            x = F.interpolate(x, (min(x.shape[2], PROBE_SIDE), min(x.shape[3], PROBE_SIDE)), mode="area")
        logits: Tensor = self.network(x)
        return logits


def probe(train: Dataset, how: Augmentation, seed: int = 0) -> nn.Module:
    """A network trained briefly on a few of the images, varied as told; the caller's random numbers stay as they are."""
    few = train.subset(stratified(train.labels, min(PROBE_IMAGES, len(train)), 0))
    images, labels, batch = pixels(few), torch.from_numpy(few.labels), min(PROBE_BATCH, len(few))
    steps = min(PROBE_STEPS, PROBE_EPOCHS * (len(few) // batch))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = Probe(train.classes).to(device()).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=PROBE_LR, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.cat([torch.randperm(len(few), generator=generator) for _ in range(PROBE_EPOCHS)])
    for step in range(steps):
        part = order[step * batch : (step + 1) * batch]
        x, y = scaled(augment(images[part], generator, how)).to(device()), labels[part].to(device())
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(x), y))
        optimizer.step()
        schedule.step()
    return network.eval()
