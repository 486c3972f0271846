"""The command line: parse, check, hand over, print. Errors of every room are caught here, once. Imports no torch at start."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import ExitStack, nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

from harness import plugins
from harness.commands import compare, compress, devices, doctor, history, lint, models, reproduce, requirements, selftest, sweep, validate
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
    Device,
    Devices,
    Emulate,
    EngineFiles,
    Eps,
    Executor,
    Flavours,
    Fleet,
    GoOn,
    Host,
    ImageSize,
    Margin,
    Model,
    ModelArgument,
    Normalize,
    Out,
    Plugins,
    Scenario,
    Seed,
    Threads,
    Tier,
)  # fmt: skip
from harness.commands.requirements import Requirements, hold_against, init_requirements, rows_exit_code
from harness.compute.allocator import keep_freed_memory
from harness.compute.openmp import sleep_while_waiting
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.records import RunRecord
    from harness.settings import Settings

DEFAULT_MODEL = "resnet18x16-at"
BENCH_EPILOG = """
Example: harness bench --model my.safetensors --arch mobilenet_v3_small --data images/ --normalize imagenet --eps 2/255

Flavours: onnx-fp32, ort-int8, ort-int8-rr, ort-int8-precise, trt-fp32, trt-fp16, trt-int8, trt-int8-fp32, trt-int8-sparse, torch-trt,
exec:COMMAND

Attacks: fgsm, bim, pgd, FB_pgd_at, cw-l2, apgd-ce, apgd-scaled, apgd-probs, apgd-dlr, apgd-t, bpda, bisect, diva, diva-reverse, square,
square-warm, square-l2, hopskipjump, noise, autoattack (the standard version, slow); NAME-N: with N steps

Exit codes: 0 nothing refuted, every requirement met · 1 a claim fails or is degraded, or a requirement is missed
· 2 wrong usage or input · 3 inconclusive or untrusted
· 4 device or engine failed · 70 a fault of this program · 130, 143, 129 interrupted · 141 the reader of its output went away
"""

app = typer.Typer(
    help="Does a compressed classifier's robustness still hold on the engine that is deployed, and what does it cost there?",
    epilog="Start with: harness bench",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def print_version(asked: bool) -> None:
    """`--version`."""
    if asked:
        from harness import __version__

        print(__version__)
        raise typer.Exit


@app.callback(epilog="Start with: harness bench")
def root(
    _debug: Annotated[bool, typer.Option("--debug", help="show a traceback on errors; accepted anywhere on the line")] = False,
    _quiet: Annotated[bool, typer.Option("--quiet", help="show the result and errors, no progress; accepted anywhere on the line")] = False,
    _version: Annotated[bool, typer.Option("--version", is_eager=True, callback=print_version, help="print the version and stop")] = False,
) -> None:
    """Does a compressed classifier's robustness still hold on the engine that is deployed, and what does it cost there?"""


@app.command(epilog=BENCH_EPILOG)
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
    """Measure a classifier on a device and say whether its robustness claim survives there."""
    from harness.settings import FLEET

    if misplaced is not None:
        raise UsageError(f"'{misplaced}': a bench takes its model as an option: harness bench --model {misplaced}")
    if resume is not None and requirements is not None:
        raise UsageError(
            f"--requirements is said when a run begins. For a finished one: harness report {resume} --requirements {requirements}"
        )
    several = fleet is not None or len(device or ()) > 1 or (resume is not None and (resume / FLEET).exists())
    one = {} if several else {"device": (device or ["host"])[0], "emulate": emulate, "host": host}
    settings = _settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, **one,
        flavours=_engines(flavour, engine), attacks=_each(attack), eps=eps, samples=samples, tier=tier, margin=margin,
        calibration=calibration,
        batches=batch, scenario=scenario, threads=threads, seed=seed, sources=_each(source), exhaustive=exhaustive, builds=builds,
        plugins=plugin, executor=executor, address=address,
    )  # fmt: skip
    if resume is not None:
        _check_resumed(settings, resume, out)
    if several:
        _bench_fleet(settings, Fleets(device or [], fleet, host, emulate), out, resume, as_json, requirements)
    _bench(settings, out, resume, as_json, requirements)


@app.command(epilog="Example: harness profile resnet8 --batch 1 --batch 64")
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
    """Latency, memory and clean accuracy only: a bench without attacks."""
    settings = _settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, device=device, emulate=emulate,
        host=host, flavours=_engines(flavour, engine), attacks=(), tier=tier, calibration=calibration, batches=batch, scenario=scenario,
        threads=threads, seed=seed, plugins=plugin,
    )  # fmt: skip
    _bench(settings, out, None, as_json)


@app.command(epilog="Example: harness export resnet8 --flavour trt-int8 --aot sm86 --out artefacts/")
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
    """Write deployable files of a model, each checked for parity with the twin."""
    settings = _settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, flavours=_each(flavour),
        calibration=calibration, seed=seed, plugins=plugin,
    )  # fmt: skip
    _look_up(settings)
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


@app.command(epilog="Example: harness attack resnet18x16-at --attack apgd-ce --eps 8/255 --out apgd.npz")
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
    """Make one adversarial set on the twin; run again after an interruption, it goes on where it was."""
    settings = _settings(
        model=model, arch=arch, classes=classes, normalize=normalize, image_size=image_size, data=data, attacks=(attack,), eps=eps,
        samples=samples, seed=seed, plugins=plugin,
    )  # fmt: skip
    _look_up(settings)
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


@app.command(epilog="Example: harness train harness/training/recipes/resnet8.toml --data cifar10 --out training/resnet8")
def train(
    recipe: Annotated[Path, typer.Argument(help="a recipe, TOML")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint, weights and card; an interrupted run there goes on")],
    data: Annotated[str, typer.Option(help="training images: cifar10 or FILE.npz (images, labels)")] = "cifar10",
    test: Annotated[str, typer.Option(help="images for the figures on the card")] = "cifar10-sample",
    resume: GoOn = False,
) -> None:
    """Train a network from a recipe; ends with NAME.safetensors and its model card NAME.json."""
    from harness.training.card import train_with_card

    with going_on():
        card = train_with_card(recipe, data, test, out, resume=resume)
    if card is not None:  # several processes: the first one writes
        print(card)


@app.command(epilog="Example: harness report runs/my-run --format md")
def report(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, md, json, junit, csv, parquet, latex, robustbench or mlbom (CycloneDX), repeatable [default: html, md]",
        ),
    ] = None,
    requirements: Requirements = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="with --format junit: what is undecided fails, instead of being skipped")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Render a saved run again; prints the paths. With requirements, the run is held against them first."""
    plugins.load(plugin or ())
    from reports.render import render

    formats = _each(format) or ("html", "md")
    if strict and "junit" not in formats:
        raise UsageError(f"--strict is about --format junit; got {', '.join(formats)}")
    record = None if requirements is None else hold_against(run, requirements)
    paths = render(run, formats, strict=strict)
    if record is not None:
        from reports.terminal import print_requirements

        print_requirements(record)
    for path in paths.values():
        print(path)
    if record is not None:
        raise typer.Exit(rows_exit_code(record))


# The commands with files of their own, in the order of `--help`.
app.command(epilog=lint.EPILOG)(lint.lint)
app.command(epilog=compress.EPILOG)(compress.compress)
app.command(epilog=sweep.EPILOG)(sweep.sweep)
app.command(epilog=reproduce.EPILOG)(reproduce.reproduce)
app.command("init-requirements", epilog=requirements.EPILOG)(init_requirements)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=history.EPILOG)(history.history)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.command(epilog=selftest.EPILOG)(selftest.selftest)
app.command(epilog=validate.EPILOG)(validate.validate)
app.add_typer(devices.app, name="devices")
app.add_typer(models.app, name="models")


def _settings(**options: Any) -> Settings:
    """The settings of these values. Raises UsageError: one that is not of its option."""
    from harness.settings import make_settings

    return make_settings(**options)


def _look_up(settings: Settings) -> None:
    """Look up every name in the settings before PyTorch is imported: a wrong one is answered at once. Raises UsageError."""
    from harness.stages.names import check_names

    check_names(settings)


def _each(names: list[str] | None) -> tuple[str, ...] | None:
    """The names of a repeatable option, which may stand in one word too, with commas; a command or a path stays whole."""
    if names is None:
        return None
    words = ([name] if name.startswith(("exec:", "file:")) else name.split(",") for name in names)
    return tuple(word.strip() for several in words for word in several)


def _engines(flavours: list[str] | None, files: list[Path] | None) -> tuple[str, ...] | None:
    """The flavours that are asked for, with the files that run as they are; beside those alone the float model, as a control."""
    names = _each(flavours)
    if not files:
        return names
    return (*(("onnx-fp32",) if names is None else names), *(f"file:{path.absolute()}" for path in files))


def _bench(settings: Settings, out: Path | None, resume: Path | None, as_json: bool, requirements: Path | None = None) -> NoReturn:
    if resume is None:
        _look_up(settings)
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
        print((folder / "report.md").read_text(), end="")
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


def main() -> None:
    """Entry point of `harness`. Every error becomes one line on standard error and its exit code; see `harness.ending`."""
    from harness.ending import end_well

    debug, quiet = "--debug" in sys.argv, "--quiet" in sys.argv
    keep_freed_memory()
    sleep_while_waiting()
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--debug", "--quiet")]

    def run() -> None:
        with redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))) if quiet else nullcontext():
            app(args=arguments)

    with ExitStack() as stack:
        code = end_well(run, debug=debug)  # which says errors where standard error really is
    sys.exit(code)


if __name__ == "__main__":
    main()
