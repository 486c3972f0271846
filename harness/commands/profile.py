"""`harness profile`: a bench without attacks."""

from __future__ import annotations

from harness.commands.bench import engines, run
from harness.commands.options import (
    Arch,
    AsJson,
    Batches,
    Calibration,
    Classes,
    Data,
    Device,
    Emulate,
    EngineFiles,
    Flavours,
    Host,
    ImageSize,
    ModelArgument,
    Normalize,
    Out,
    Plugins,
    Scenario,
    Seed,
    Threads,
    Tier,
)

EPILOG = "Example: harness profile resnet8 --batch 1 --batch 64"


def profile(
    model: ModelArgument,
    data: Data = "cifar10-sample",
    device: Device = "host",
    emulate: Emulate = False,
    host: Host = None,
    flavour: Flavours = None,
    engine: EngineFiles = None,
    tier: Tier = "quick",
    arch: Arch = None,
    classes: Classes = None,
    normalize: Normalize = None,
    image_size: ImageSize = None,
    calibration: Calibration = "minmax",
    batch: Batches = None,
    scenario: Scenario = None,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Measure latency, memory and clean accuracy alone. It is a bench without attacks."""
    from harness.settings import make_settings

    settings = make_settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, device=device, emulate=emulate,
        host=host, flavours=engines(flavour, engine), attacks=(), tier=tier, calibration=calibration, batches=batch, scenario=scenario,
        threads=threads, seed=seed, plugins=plugin,
    )  # fmt: skip
    run(settings, out, None, as_json)
