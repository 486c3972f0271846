"""`harness bench`: parse, hand over, print, and the exit code."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from harness.commands.interruption import going_on
from harness.commands.options import (
    Address,
    Arch,
    AsJson,
    Attacks,
    Batches,
    Calibration,
    Classes,
    Data,
    Devices,
    Emulate,
    EngineFiles,
    Eps,
    Executor,
    Flavours,
    Fleet,
    Host,
    ImageSize,
    Margin,
    Model,
    Normalize,
    Out,
    Plugins,
    Scenario,
    Seed,
    Threads,
    Tier,
    each,
)
from harness.commands.requirements import Requirements, rows_exit_code
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.records import RunRecord
    from harness.settings import Settings

DEFAULT_MODEL = "resnet18x16-at"
EPILOG = """
Example: harness bench --model my.safetensors --arch mobilenet_v3_small --data images/ --normalize imagenet --eps 2/255

Flavours: onnx-fp32, ort-int8, ort-int8-rr, ort-int8-precise, trt-fp32, trt-fp16, trt-int8, trt-int8-fp32, trt-int8-sparse, torch-trt,
exec:COMMAND

Attacks: fgsm, bim, pgd, FB_pgd_at, cw-l2, apgd-ce, apgd-scaled, apgd-probs, apgd-dlr, apgd-t, bpda, bisect, diva, diva-reverse, square,
square-warm, square-l2, hopskipjump, noise, autoattack (the standard version, slow); NAME-N: with N steps

Exit codes: 0 nothing refuted, every requirement met · 1 a claim fails or is degraded, or a requirement is missed
· 2 wrong usage or input · 3 inconclusive or untrusted
· 4 device or engine failed · 70 a fault of this program · 130, 143, 129, 152 interrupted · 141 the reader of its output went away
"""


def bench(
    model: Model = DEFAULT_MODEL,
    data: Data = "cifar10-sample",
    device: Devices = None,
    fleet: Fleet = None,
    emulate: Emulate = False,
    host: Host = None,
    flavour: Flavours = None,
    engine: EngineFiles = None,
    attack: Attacks = None,
    eps: Eps = None,
    margin: Margin = None,
    samples: Annotated[int | None, typer.Option(help="attacked images [default: the tier's]")] = None,
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
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="make only sets of these sources: S0 to S7, repeatable [default: those of the tier]"),
    ] = None,
    plugin: Plugins = None,
    builds: Annotated[
        int | None, typer.Option(help="engines built of each flavour; the worst counts [default: 1; 3 in tier qualify]")
    ] = None,
    misplaced: Annotated[str | None, typer.Argument(hidden=True)] = None,
    exhaustive: Annotated[
        bool | None,
        typer.Option(help="every attack on every image, for transfer rates of each; several times as long [default: of tier qualify]"),
    ] = None,
    executor: Executor = "local",
    address: Address = None,
    requirements: Requirements = None,
    resume: Annotated[Path | None, typer.Option(help="go on with an interrupted run; every other option comes from its record")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a robustness claim on the device that runs it. Measures latency, memory and accuracy, attacks the twin and the engines,
    and writes a report with a verdict.
    """
    from harness.settings import FLEET, make_settings

    if misplaced is not None:
        raise UsageError(f"'{misplaced}': a bench takes its model as an option: harness bench --model {misplaced}")
    if resume is not None and requirements is not None:
        raise UsageError(
            f"--requirements is said when a run begins. For a finished one: harness report {resume} --requirements {requirements}"
        )
    several = fleet is not None or len(device or ()) > 1 or (resume is not None and (resume / FLEET).exists())
    one = {} if several else {"device": (device or ["host"])[0], "emulate": emulate, "host": host}
    settings = make_settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, **one,
        flavours=engines(flavour, engine), attacks=each(attack), eps=eps, samples=samples, tier=tier, margin=margin,
        calibration=calibration,
        batches=batch, scenario=scenario, threads=threads, seed=seed, sources=each(source), exhaustive=exhaustive, builds=builds,
        plugins=plugin, executor=executor, address=address,
    )  # fmt: skip
    if resume is not None:
        _check_resumed(settings, resume, out)
    if several:
        _bench_fleet(settings, Fleets(device or [], fleet, host, emulate), out, resume, as_json, requirements)
    run(settings, out, resume, as_json, requirements)


def engines(flavours: list[str] | None, files: list[Path] | None) -> tuple[str, ...] | None:
    """The flavours that are asked for, with the files that run as they are; beside those alone the float model, as a control."""
    names = each(flavours)
    if not files:
        return names
    return (*(("onnx-fp32",) if names is None else names), *(f"file:{path.absolute()}" for path in files))


def run(settings: Settings, out: Path | None, resume: Path | None, as_json: bool, requirements: Path | None = None) -> NoReturn:
    """Bench one device, print the result, and end with its exit code."""
    from harness.stages.names import check_names

    if resume is None:
        check_names(settings)  # before PyTorch is imported: a wrong one is answered at once
    from harness import spine
    from harness.settings import check_output
    from reports.terminal import print_verdict

    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(settings.model).stem}-{settings.device}"
    folder = resume or out or Path("runs") / name
    with going_on(lambda: resuming(folder, "record.json")):
        if resume is not None:
            record = spine.resume(folder)
        else:
            check_output(folder)
            record = spine.bench(settings, folder, ["harness", *sys.argv[1:]], requirements)
    if as_json:
        print(record.model_dump_json(indent=1, by_alias=True))
    else:
        print_verdict(record)
        for file in ("report.html", "report.md", "record.json"):
            print(folder / file)
    raise typer.Exit(exit_code(record))


def _check_resumed(settings: Settings, resume: Path, out: Path | None) -> None:
    """Refuse what is said beside --resume and would not be done."""
    from harness.settings import check_resumed

    if out is not None and out.absolute() != resume.absolute():
        raise UsageError(f"--out {out}: the run goes on where it was begun, in {resume}. Leave --out away.")
    check_resumed(settings, DEFAULT_MODEL, resume)


class Fleets(NamedTuple):
    """Which devices, as the command line says it."""

    devices: list[str]
    file: Path | None
    host: str | None
    emulate: bool


def _bench_fleet(
    settings: Settings, asked: Fleets, out: Path | None, resume: Path | None, as_json: bool, requirements: Path | None
) -> NoReturn:
    from harness.fleet.members import check_fleet, named
    from harness.settings import FLEET, check_output

    if resume is None:
        members = named(asked.devices, asked.file, host=asked.host, emulate=asked.emulate)
        check_fleet(members, settings)
    from harness.fleet import run as fleet

    folder = resume or out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(settings.model).stem}-fleet"
    with going_on(lambda: resuming(folder, FLEET)):
        if resume is not None:
            record = fleet.resume(folder)
        else:
            check_output(folder)
            record = fleet.bench(members, settings, folder, ["harness", *sys.argv[1:]], requirements)
    if as_json:
        print(record.model_dump_json(indent=1, by_alias=True))
    else:
        print((folder / "report.md").read_text(encoding="utf-8"), end="")
        for path in (folder / "report.html", folder / "report.md", *(folder / e.folder / "report.html" for e in record.members)):
            if path.exists():
                print(path)
    raise typer.Exit(record.exit_code)


def resuming(folder: Path, record: str) -> str | None:
    """The command that goes on with a run, once it has begun."""
    return f"harness bench --resume {shlex.quote(str(folder))}" if (folder / record).exists() else None


def exit_code(record: RunRecord) -> int:
    """The process's exit code for a finished run: the worse of the verdict's and of its requirements', 1 before 4 before 3."""
    codes = {verdict_exit_code(record), rows_exit_code(record)}
    return next(code for code in (1, 4, 3, 0) if code in codes)


def verdict_exit_code(record: RunRecord) -> int:
    """The verdict's exit code.

    Where nothing was claimed: 4 if an engine failed, 3 if a gate that guards did, or a measurement, which is all there is, is INVALID.
    """
    from harness.audit.gates import guards

    if record.verdict is not None:
        return record.verdict.exit_code
    if any(engine.status != "ok" for engine in record.engines):
        return 4
    failed = any(gate.passed is False and (guards(gate) or gate.name == "conditions") for gate in record.gates)
    return 3 if failed else 0
