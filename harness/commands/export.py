"""`harness export`: deployable files of a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.commands.options import (
    Arch,
    AsJson,
    Calibration,
    Classes,
    Data,
    Flavours,
    ImageSize,
    ModelArgument,
    Normalize,
    Plugins,
    Seed,
    each,
)
from harness.errors import UsageError

EPILOG = "Example: harness export resnet8 --flavour trt-int8 --aot sm86 --out artefacts/"


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="folder for the artefacts and their manifests")],
    flavour: Flavours = None,
    aot: Annotated[
        str | None, typer.Option(help="build TensorRT engines too, without a GPU, for: sm75, sm80, sm86, sm89, sm120 or sm121")
    ] = None,
    builds: Annotated[int, typer.Option(help="engines per flavour: builders are not deterministic")] = 1,
    data: Data = "cifar10-sample",
    arch: Arch = None,
    classes: Classes = None,
    normalize: Normalize = None,
    image_size: ImageSize = None,
    calibration: Calibration = "minmax",
    seed: Seed = 0,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Write deployable files, each checked against the twin."""
    from harness.settings import make_settings
    from harness.stages.names import check_names

    settings = make_settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, flavours=each(flavour),
        calibration=calibration, seed=seed, plugins=plugin,
    )  # fmt: skip
    check_names(settings)  # before PyTorch is imported: a wrong one is answered at once
    from harness.stages.ahead import build_ahead, check_ahead
    from harness.stages.export import export_and_check
    from harness.stages.subject import load_subject

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    if aot is not None:
        check_ahead(aot, builds, settings.flavour_names)
    elif builds != 1:
        raise UsageError(f"--builds {builds} is about engines built ahead of time. Add --aot, or leave it out.")
    exported = export_and_check(load_subject(settings), settings, out, say)
    plans = build_ahead(exported, aot, builds, out, say) if aot is not None else []
    if as_json:
        found: list[dict[str, Any]] = [
            {"path": str(e.artefact.path), "sha256": e.artefact.sha256, "parity": e.parity.model_dump() if e.parity else None}
            for e in exported
        ]
        found += [{"path": str(p.path), "sha256": p.sha256, "onnx_sha256": p.onnx_sha256, "target": p.target, "run": False} for p in plans]
        print(json.dumps(found, indent=1))
    else:
        for path in (*(e.artefact.path for e in exported), *(p.path for p in plans)):
            print(path)
    if not all(e.parity is None or e.parity.passed for e in exported):
        raise typer.Exit(3)
