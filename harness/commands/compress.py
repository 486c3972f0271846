"""`harness compress`: a model in, a smaller one with its card out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.interruption import going_on
from harness.commands.options import Arch, AsJson, Classes, GoOn, ImageSize, ModelArgument, Normalize, Plugins, Seed

EPILOG = """
Methods: radmm, hydra, magnitude, nm24, filters, lowbit, ptq-int8, qat-int8, and into a --student kd, ard, rslad, iad-1, iad-2.

What a recipe may say: docs/recipes-and-sweeps.md in the repository; the shipped ones lie in harness/compression/recipes.

Example: harness compress resnet18x16-at --method nm24 --out nm24.safetensors
"""


def compress(
    model: ModelArgument,
    method: Annotated[str, typer.Option(help="a compression method, see below")],
    out: Annotated[Path, typer.Option(help="FILE.safetensors to write; its card FILE.json lies beside it")],
    rate: Annotated[str | None, typer.Option(help="8x, 0.9, 90% (share of zeros) or bits such as w4a4 [default: the method's]")] = None,
    pattern: Annotated[str | None, typer.Option(help="where zeros may stand: irregular, filter, column or 2:4")] = None,
    recipe: Annotated[str, typer.Option(help="cpu, paper, standard (lowbit, no adversary), or FILE.toml")] = "cpu",
    until: Annotated[str | None, typer.Option(help="stop after this stage of the recipe")] = None,
    student: Annotated[str | None, typer.Option(help="architecture to distil into [default: the teacher's]")] = None,
    standard_teacher: Annotated[str | None, typer.Option(help="a second teacher, trained without an adversary (iad-2)")] = None,
    data: Annotated[str, typer.Option(help="training images: cifar10 or FILE.npz (images, labels)")] = "cifar10",
    test: Annotated[str, typer.Option(help="images for the figures on the card")] = "cifar10-sample",
    work: Annotated[Path | None, typer.Option(help="folder for checkpoints, kept [default: beside --out, removed at the end]")] = None,
    arch: Arch = None,
    classes: Classes = None,
    image_size: ImageSize = None,
    normalize: Normalize = None,
    resume: GoOn = False,
    seed: Seed = 0,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Compress a model. Run again after an interruption, it goes on from the last epoch."""
    from harness import plugins
    from harness.compression.compress import compress as run
    from harness.compression.request import Request

    plugins.load(plugin or ())
    request = Request(
        model=model, method=method, rate=rate, pattern=pattern, recipe=recipe, until=until, student=student,
        standard_teacher=standard_teacher, data=data, test=test, arch=arch, classes=classes,
        image_size=image_size, normalize=normalize, seed=seed,
    )  # fmt: skip
    with going_on():
        card = run(request, out, work, resume=resume)
    if card is None:  # another process writes
        return
    print(_summary(json.loads(card.read_text(encoding="utf-8"))), file=sys.stderr)
    if as_json:
        print(card.read_text(encoding="utf-8"), end="")
    else:
        print(out)
        print(card)


def _summary(card: dict[str, Any]) -> str:
    """What came out, in a line: how right, how robust, how small, beside the rate that was asked for."""
    seen, ratio, rate = card["measured"], card["size"]["ratio"], card["method"]["rate"]
    clean, worst = (seen[name] for name in ("clean", "worst case of these"))
    asked = f"; asked for {rate}" if rate else ""
    return (
        f"clean {clean['accuracy']:.1%}, under the worst of the attacks at {seen['eps']} {worst['accuracy']:.1%} (n = {clean['n']:,}); "
        f"γ {ratio['nonzero']:.2f} by non-zero parameters, {ratio['weight_bits']:.2f} by bits{asked}"
    )
