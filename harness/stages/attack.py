"""The adversarial sets of a run: made in a cascade, each answered by every model as soon as it is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from harness.answers import TWIN, Answers, Column, Matrix, Model, Right
from harness.attacks.batch import Panel
from harness.attacks.executors import Executor
from harness.attacks.executors.local import Local
from harness.attacks.forms import Forms
from harness.attacks.parts import open_images, write
from harness.attacks.sets import make_set
from harness.attacks.target import EngineLostError, ModuleTarget, Target
from harness.compute.allocator import give_back
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.models.predictions import margins
from harness.progress import whole
from harness.records import AttackRecord
from harness.run import RunFolder
from harness.settings import Settings
from harness.sources import PARENT, SOURCES, aimed, facing, flavour_of, of_run
from harness.sources.planned import Context, Planned
from harness.stack import Chosen, ImageStack, Mixed
from harness.stages.subject import Subject, load_subject

SETS = "adversarial"
CLEAN_FILE = "clean.npz"


@dataclass
class Cascade:
    """Attacks run one after another on a pool. An image leaves it when the twin and every engine of the claim have been fooled on it.

    No further attack could change any worst case then, so the result is that of all attacks on all images, for a part of the gradients.
    What an image was broken by in a smaller ball breaks it in a larger one too, so the security curve asks only what is left open.

    Attributes:
        context: twin, engines, graphs.
        answers: where every model's answers go.
        folder: the run's.
        exhaustive: every attack on every image, to its end; with a further seed, on those that are left, as without it.
        executor: who attacks modules; an engine, which this process holds open, is attacked in it.
        lost: engines that gave up meanwhile, and why.
        columns: the sets made so far.
    """

    context: Context
    answers: Answers
    folder: Path
    exhaustive: bool
    say: Callable[[str], None]
    executor: Executor = field(default_factory=Local)
    lost: dict[str, str] = field(default_factory=dict)
    columns: list[Column] = field(default_factory=list)
    _forms: dict[nn.Module, Forms] = field(default_factory=dict)

    def run(self) -> list[AttackRecord]:
        """Make every set that the run's sources plan; finished ones are read back.

        Raises:
            UsageError, UntrustedError: see `harness.attacks.sets.make_set`.
        """
        subject, place = self.context.subject, self.folder / SETS
        place.mkdir(exist_ok=True)
        _save_clean(place / CLEAN_FILE, subject)
        self.answers.begin(subject.test.labels, subject.index)
        self._ask_all(subject.test.sha256, subject.test.images)
        every = list(self._planned())
        with whole("set", [planned.work for planned in every]) as sets:
            for planned in every:
                self._make(planned)
                sets.advance()
        if not self.columns:
            self.say("no attacks: latency, memory and clean accuracy only")
        return [column.record for column in self.columns]

    def _planned(self) -> Iterator[Planned]:
        """The sets of all sources; then, with each further seed, those of the primary radius that another seed may find more with."""
        settings = self.context.settings
        sources = of_run(settings.sources, settings.tier)
        for repeat in range(1, settings.plan.seeds + 1):
            for source in sources:
                for planned in source.plan(self.context):
                    if repeat == 1 or (
                        source.decides and planned.attack.random and planned.attack.bounded and planned.eps == self.context.subject.eps
                    ):
                        yield replace(planned, attack=planned.attack.again(repeat))

    @property
    def engines(self) -> list[str]:
        """The engines that still answer."""
        return [name for name in self.context.engines if name not in self.lost]

    @property
    def matrix(self) -> Matrix:
        """The cells so far."""
        return Matrix(self.answers, self.context.subject.test.sha256, self.columns)

    def _make(self, planned: Planned) -> None:
        """One set, and everyone's answers to it. An engine that gives up leaves, and the set is begun anew without it."""
        if (inherited := self._inherited(planned)) is not None:
            self.columns.append(inherited)
            return
        while self._worth(planned):
            try:
                record, images, index = self._attack(planned)
                give_back()
                self._ask_all(record.set_sha256, images)
                self.columns.append(Column(record, index))
            except EngineLostError as error:
                self.lost[error.engine] = str(error)
                self.say(f"{error.engine} gave up: {error}")
            else:
                return

    def _inherited(self, planned: Planned) -> Column | None:
        """Of a set that is aimed at an engine itself: the same one of another engine that answers as this one does, to the bit, to all so
        far, that set among it. Made anew it would have the same bytes, but where other gradients lead it (BPDA, across flavours).
        """
        if not self.context.inherits or planned.source != "S4" or planned.name not in self.engines:
            return None
        for column in self.columns:
            record = column.record
            of_another = (record.source, record.name) == (planned.source, planned.attack.name) and record.target not in (TWIN, planned.name)
            if of_another and record.inherited_from is None and self._alike(record.target, planned.name):
                self.say(f"{planned.name} answers as {record.target} does, to the bit: {record.name} is its set")
                changes = {"target": planned.name, "made_on": planned.name, "inherited_from": record.target}
                return Column(record.model_copy(update=changes), column.index)
        return None

    def _alike(self, first: str, second: str) -> bool:
        """Whether two engines gave the same bits for the clean images and every set."""
        sets: list[Column | None] = [None, *self.columns]
        return all(np.array_equal(self.matrix.logits(first, column), self.matrix.logits(second, column)) for column in sets)

    def _worth(self, planned: Planned) -> bool:
        """Whether an engine of a claim that the set counts in still answers; of the twin's sets, and where no engine is open, always."""
        concerned = [name for name in self.context.engines if _concerns(planned, name)]
        return planned.name == TWIN or not concerned or any(name not in self.lost for name in concerned)

    def _attack(self, planned: Planned) -> tuple[AttackRecord, ImageStack, NDArray[np.int64]]:
        """The set itself, and the positions of its images: of none where none is left, which is complete too."""
        subject = self.context.subject
        index, panel = (planned.index, None) if planned.index is not None else self._pool(planned)
        if not len(index):
            self.say(f"{planned.source} {planned.attack.name} on {planned.name} at {planned.eps}: no image is left that it could change")
        record, images = make_set(
            planned.target.module,
            subject.test,
            index,
            planned.attack,
            planned.eps,
            self.context.settings.seed + planned.attack.repeat - 1,
            source=planned.source,
            target=planned.name,
            made_on=planned.target.id,
            folder=self.folder / SETS,
            panel=panel,
            first=self._warm(planned, index) if planned.goes_on and len(index) else None,
            executor=self.executor if isinstance(planned.target, ModuleTarget) else None,
            forms=self._forms_of(planned.target),
        )
        return record, images, subject.test.place(index)

    def _forms_of(self, target: Target) -> Forms:
        """What sets aimed at the same module share."""
        if target.module not in self._forms:
            answers = self.matrix.logits(target.id) if self.matrix.has(target.id) else None
            self._forms[target.module] = Forms(target.module, self.context.subject.test, answers)
        return self._forms[target.module]

    def _pool(self, planned: Planned) -> tuple[NDArray[np.int64], Panel | None]:
        """The images on which a model of a claim holds out, and who is fooled on each already."""
        index = self.context.subject.index
        if not planned.attack.bounded:
            return index, None
        if self.exhaustive and planned.attack.repeat == 1:
            return index, Panel((), np.zeros((len(index), 0), np.bool_))
        judges = self._judges(planned)
        holds = np.stack([self._holds(model.id, claims, planned) for model, claims in judges], axis=1)
        models = [model for model, _ in judges]
        open_ = holds & self._breakable(models, planned)
        return index[open_.any(1)], Panel(models, ~open_[open_.any(1)])

    def _judges(self, planned: Planned) -> list[tuple[Model, list[str]]]:
        """Who must be fooled on an image before it leaves, each with the claims whose sets it must have seen."""
        if self.context.parent is not None and planned.name == PARENT:
            return [(self.context.parent, [PARENT])]
        claims = self._claims(planned)
        of_flavour = {flavour: [name for name in claims if flavour_of(name) == flavour] for flavour in self.context.between}
        between = [(model, of_flavour[flavour]) for flavour, models in self.context.between.items() for model in models]
        return [
            (self.context.twin, claims or [TWIN]),
            *((self.context.engines[name], [name]) for name in claims),
            *((model, names) for model, names in between if names),
        ]

    def _claims(self, planned: Planned) -> list[str]:
        """The engines whose claims the set counts in."""
        return [name for name in self.engines if _concerns(planned, name)]

    def _holds(self, model: str, claims: list[str], planned: Planned) -> Right:
        """Where a model is still right under every set so far that counts beside this one in one of the claims, bool (n,)."""
        found = [self.matrix.worst_case(model, facing(self.columns, claim, planned.eps)) for claim in claims]
        return np.asarray(np.any(found, axis=0), np.bool_)

    def _breakable(self, judges: list[Model], planned: Planned) -> NDArray[np.bool_]:
        """Below a radius that the same source attacked already, only what broke there can break, bool (n, judges).

        Another source may find what that one did not: an engine that withstands its twin's sets in a large ball may fall in a small one.
        """
        alike = [column for column in self.columns if (column.record.target == PARENT) == (planned.name == PARENT)]
        larger = [column.eps for column in alike if column.eps > planned.eps and column.record.source == planned.source]
        n = len(self.context.subject.index)
        if not larger:
            return np.ones((n, len(judges)), np.bool_)
        within = [column for column in alike if column.eps <= min(larger) and SOURCES[column.record.source].decides]
        return np.stack([~self.matrix.worst_case(model.id, within) for model in judges], axis=1)

    def _warm(self, planned: Planned, index: NDArray[np.int64]) -> ImageStack | None:
        """The best of the sets of the named sources at the same radius that are aimed at the twin or at this target."""
        columns = [
            column
            for column in self.columns
            if column.record.source in planned.warm
            and (column.eps, column.record.norm) == (planned.eps, "Linf")
            and aimed(SOURCES[column.record.source], column.record.target, planned.name)
        ]
        return best_iterates(self.matrix, planned.target.id, columns, index, self.context.subject.test, self.folder)

    def _ask_all(self, sha256: str, images: ImageStack) -> None:
        """Have everyone answer to a set."""
        engines = [self.context.engines[name] for name in self.engines]
        others = [model for model in (self.context.smooth, self.context.parent) if model is not None]
        between = [model for models in self.context.between.values() for model in models]
        models: list[Model] = [
            self.context.twin,
            *others,
            *engines,
            *self.context.graphs.values(),
            *between,
            *self.context.fewer_bits.values(),
        ]
        for model in {model.id: model for model in models}.values():
            self._ask(model, sha256, images)

    def _ask(self, model: Model, sha256: str, images: ImageStack) -> NDArray[np.float32]:
        return self.answers.ask(model, sha256, images)


def best_iterates(
    matrix: Matrix, model: str, columns: Iterable[Column], index: NDArray[np.int64], data: Dataset, folder: Path
) -> ImageStack | None:
    """Of each image at `index`, int64 (n,), its version among the sets of a run in `folder` that has the model's smallest margin, else the
    clean one; None where no set holds any.
    """
    best, smallest = Mixed(Chosen(data.images, index)), np.full(len(index), np.inf, np.float32)
    for column in columns:
        margin = margins(matrix.logits(model, column), data.labels[column.index])
        _, rows, theirs = np.intersect1d(index, column.index, assume_unique=True, return_indices=True)
        better = margin[theirs] < smallest[rows]
        smallest[rows[better]] = margin[theirs[better]]
        best.take(rows[better], open_images(folder / column.record.file), theirs[better])
    return best if np.isfinite(smallest).any() else None


def _concerns(planned: Planned, engine: str) -> bool:
    """Whether a set will be one for that engine."""
    return aimed(SOURCES[planned.source], planned.name, engine)


def _save_clean(path: Path, subject: Subject) -> None:
    """The clean images that are attacked, for the report and for whoever looks at a set."""
    write(path, {"index": subject.index, "labels": subject.test.labels[subject.index]}, Chosen(subject.test.images, subject.index))


def attack_once(settings: Settings, out: Path) -> AttackRecord:
    """Make the one set of `harness attack` and write it to `out`.

    Raises:
        UsageError: anything the user can mend; another process makes a set for the same file.
    """
    _check_new(out)
    subject: Subject = load_subject(settings, only_attacked=True)
    attack = subject.attacks[0]
    place = out.with_name(f"{out.name}.parts")
    with RunFolder(place):
        _check_new(out)  # whoever held the folder may have finished since
        record, _ = make_set(
            subject.twin.module, subject.test, subject.index, attack, subject.eps, settings.seed, source="S1", folder=place
        )
        (place / Path(record.file).name).replace(out)
        shutil.rmtree(place)
    return record.model_copy(update={"file": str(out)})


def _check_new(out: Path) -> None:
    if out.exists() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: expected the name of a file that does not exist yet, in a folder that does")
