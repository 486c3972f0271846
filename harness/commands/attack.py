"""`harness attack`: one adversarial set on the twin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.interruption import going_on
from harness.commands.options import Arch, AsJson, Classes, Data, Eps, ImageSize, ModelArgument, Normalize, Plugins, Seed
from harness.errors import UsageError

EPILOG = "Example: harness attack resnet18x16-at --attack apgd-ce --eps 8/255 --out apgd.npz"


def attack(
    model: ModelArgument,
    attack: Annotated[str, typer.Option(help="an attack's name")],
    out: Annotated[Path, typer.Option(help="file to write: images (uint8 NHWC), index, labels")],
    eps: Eps = None,
    samples: Annotated[int | None, typer.Option(help="attacked images [default: 256]")] = None,
    data: Data = "cifar10-sample",
    arch: Arch = None,
    classes: Classes = None,
    normalize: Normalize = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Make one adversarial set on the twin. Run again after an interruption, it goes on where it was."""
    from harness.settings import make_settings
    from harness.stages.names import check_names

    settings = make_settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, attacks=(attack,), eps=eps,
        samples=samples, seed=seed, plugins=plugin,
    )  # fmt: skip
    check_names(settings)  # before PyTorch is imported: a wrong one is answered at once
    from harness.attacks.table import resolve

    if eps is not None and not resolve(attack).bounded:
        raise UsageError(f"--eps {eps}: {attack} looks for the smallest distance and takes no radius. Leave it out.")
    from harness.audit.gates import undone_remark
    from harness.stages.attack import attack_once

    with going_on():
        record = attack_once(settings, out)
    if as_json:
        print(record.model_dump_json(indent=1))
    else:
        right = f"the twin has {record.target_accuracy:.1%} of {record.n} images right"
        if record.norm == "Linf":
            print(f"{record.name} at {record.eps_exact}: {right}")
        else:
            nearest = "" if record.l2_median is None else f"; of those that it fooled the median L2 distance is {record.l2_median:.3g}"
            print(f"{record.name}: {right}{nearest}")
        print(out)
    if (remark := undone_remark([(record.name, record.undone_by_rounding, record.n_attacked)])) is not None:
        print(f"note: {remark}", file=sys.stderr)
