"""Hop 4: the adversarial sets of a run, made on its twins."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from export.artefact import Artefact
from harness.attacks.batch import Images
from harness.attacks.sets import make_set
from harness.attacks.table import Attack, resolve
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.hops.export import Exported
from harness.hops.subject import Subject, load_subject
from harness.models.onnx_graph import read_onnx
from harness.records import AttackRecord
from harness.settings import CURVE, Settings

GATE = "gate"
GATE_EPS = Fraction(64, 255)
GATE_IMAGES = 64


@dataclass(frozen=True)
class Planned:
    """An adversarial set to be made. `source`: S0, S1, S3-FLAVOUR or `gate`. `everyone`: images that the module has wrong as well."""

    source: str
    module: nn.Module
    attack: Attack
    eps: Fraction
    index: NDArray[np.int64]
    everyone: bool = False


MakeSet = Callable[[Planned, Dataset, int, Path], tuple[AttackRecord, Images]]
"""(what, images, seed, folder) -> the set, whose file is in the folder."""


@dataclass(frozen=True)
class AdversarialSet:
    """A finished set. `images` are uint8 (n, h, w, c), in the order of the run's attacked images."""

    record: AttackRecord
    images: Images

    @property
    def key(self) -> str:
        """The set's name in a job."""
        return Path(self.record.file).stem

    @property
    def eps(self) -> Fraction:
        """The exact radius; 0 for a minimum-norm attack."""
        return Fraction(self.record.eps_exact)


def ste_twin(artefact: Artefact) -> nn.Module:
    """The exported Q/DQ graph read back into PyTorch: hard rounding forward, straight-through gradient backward."""
    return read_onnx(artefact.path).eval()


def plan_sets(subject: Subject, exported: list[Exported]) -> Iterator[Planned]:
    """Every set of the run, in the order they are made.

    Where a robustness claim is tested: noise (S0), each attack on the twin at the primary radius (S1), PGD at the other radii
    of the curve, the same attacks on the STE twin of each INT8 artefact (S3), and the gate of a very large radius. Every image is
    attacked, whether its target has it right or not: an engine may have right what the twin has wrong, and must face the attack too.
    """
    if not subject.attacks:
        return
    twin, eps, index = subject.twin.module, subject.eps, subject.index
    curve = resolve("pgd")
    yield Planned("S0", twin, resolve("noise"), eps, index, everyone=True)
    for attack in subject.attacks:
        yield Planned("S1", twin, attack, eps, index, everyone=True)
    for radius in sorted({*CURVE} - {eps}):
        yield Planned("S1", twin, curve, radius, index, everyone=True)
    for part in exported:
        if part.artefact.precision == "int8":
            ste = ste_twin(part.artefact)
            for attack in subject.attacks:
                yield Planned(f"S3-{part.artefact.flavour}", ste, attack, eps, index, everyone=True)
    yield Planned(GATE, twin, curve, GATE_EPS, index[:GATE_IMAGES])


def make_one(planned: Planned, data: Dataset, seed: int, folder: Path) -> tuple[AttackRecord, Images]:
    """Make a set in `folder`; a finished one is read back, a begun one goes on after its last finished batch.

    Raises:
        UsageError, UntrustedError: see `harness.attacks.sets.make_set`.
    """
    return make_set(
        planned.module,
        data,
        planned.index,
        planned.attack,
        planned.eps,
        seed,
        source=planned.source,
        folder=folder,
        everyone=planned.everyone,
    )


def make_sets(
    subject: Subject, settings: Settings, exported: list[Exported], folder: Path, say: Callable[[str], None], make: MakeSet = make_one
) -> list[AdversarialSet]:
    """Make the run's sets in `folder/adversarial`, each by `make`.

    Every set attacks all images, not the survivors of another attack: an engine must face every attack on every image, or an early
    failure of the twin would shield it.
    """
    place = folder / "adversarial"
    place.mkdir(exist_ok=True)
    save_clean(subject, place)
    planned = plan_sets(subject, exported)
    sets = [AdversarialSet(*make(one, subject.test, settings.seed, place)) for one in planned]
    if not sets:
        say("no attacks: latency, memory and clean accuracy only")
    return sets


def save_clean(subject: Subject, folder: Path) -> None:
    """Keep the attacked images as they were, beside their adversarial forms, for the report."""
    clean = subject.attacked
    np.savez_compressed(folder / "clean.npz", images=clean.images, index=subject.index, labels=clean.labels)


def attack_once(settings: Settings, out: Path) -> AttackRecord:
    """Make the one set of `harness attack` and write it to `out`.

    Raises:
        UsageError: anything the user can mend.
    """
    if out.exists() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: expected the name of a file that does not exist yet, in a folder that does")
    subject = load_subject(settings, only_attacked=True)
    attack = subject.attacks[0]
    place = out.with_name(f"{out.name}.parts")
    record, _ = make_set(subject.twin.module, subject.test, subject.index, attack, subject.eps, settings.seed, source="S1", folder=place)
    (place / Path(record.file).name).replace(out)
    shutil.rmtree(place)
    return record.model_copy(update={"file": str(out)})
