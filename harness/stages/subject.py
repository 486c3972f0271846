"""The first stage: everything that can be wrong is checked, then the twin and its images are there."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.host.errors import DeviceError
from devices.host.preflight import preflight
from devices.host.profile import DeviceProfile
from devices.host.transports import SSH
from devices.worker.reader import Reader
from devices.worker.spec import FRESH
from export.checked import parse_onnx
from export.errors import ExportError
from export.flavours import FLAVOURS
from harness.attacks.grid import ball_levels
from harness.attacks.table import Attack
from harness.data.dataset import Dataset
from harness.data.load import load_data, peek_shape, stratified
from harness.eps import off_grid
from harness.errors import UsageError
from harness.measurement.simulation import check_simulated, is_simulated
from harness.models import engine_file
from harness.models.kinds import kind_of
from harness.models.load import Twin, load_twin
from harness.records import DataRecord, DeviceRecord, ModelRecord
from harness.settings import Settings, engine_name
from harness.stages.names import check_names

GIB = 2**30


@dataclass(frozen=True)
class Subject:
    """What a run is about.

    Attributes:
        index: positions in `test` of the attacked images, stratified; the rest of `test` is only classified.
        eps: the primary radius.
    """

    twin: Twin
    test: Dataset
    calibration: Dataset
    index: NDArray[np.int64]
    eps: Fraction
    attacks: tuple[Attack, ...]
    profile: DeviceProfile


def load_subject(settings: Settings, *, only_attacked: bool = False) -> Subject:
    """Check the settings and load the twin and the images; with `only_attacked`, no other test images than those.

    Raises:
        UsageError: anything the user can mend.
        DeviceError: the device cannot be reached, or what reaching it needs on this machine is not there.
    """
    attacks, profile = check_names(settings)
    runtimes = runtimes_of(settings)
    if not all(is_simulated(runtime, profile) for runtime in runtimes.values()):
        profile = preflight(
            profile,
            lambda line: print(f"harness: {line}", file=sys.stderr),
            dict.fromkeys(runtimes.values()),
            loadgen=settings.scenario is not None,
        )
        check_simulated(settings.exported, profile)  # again: a device reached by SSH may turn out to be emulated
        _check_runtimes(settings, profile)
        _check_threads(settings, profile)
    if not only_attacked:
        check_quantized_once(settings)
    ball_levels(settings.radius(None))  # refuses a wrong --eps before anything is loaded
    if settings.eps is not None and (note := off_grid(settings.eps)):
        print(f"note: {note}", file=sys.stderr)
    twin = load_twin(
        settings.model,
        arch=settings.arch,
        classes=settings.classes,
        image_size=settings.image_size,
        normalize=settings.normalize,
        data_shape=peek_shape(settings.data),
    )
    for remark in twin.remarks:
        print(f"note: {remark}", file=sys.stderr)

    if not only_attacked:
        _check_batches(settings, profile, twin.input_shape)
        for path in map(engine_file.file_of, settings.files):
            if kind_of(path) == ".onnx":
                engine_file.check_images(path, twin)

    def attacked(labels: NDArray[np.int64]) -> NDArray[np.intp]:
        return stratified(labels, settings.samples or min(settings.plan.samples, len(labels)), settings.seed)

    shape, choose = twin.input_shape, attacked if only_attacked else None
    test, calibration = load_data(
        settings.data,
        input_shape=shape,
        classes=twin.classes,
        seed=settings.seed,
        choose=choose,
        resize=twin.resize,
        class_names=twin.class_names,
    )
    index = np.arange(len(test)) if only_attacked else attacked(test.labels)
    eps = settings.radius(twin.card.get("eps"))
    return Subject(twin, test, calibration, index, eps, attacks, profile)


def runtimes_of(settings: Settings) -> dict[str, str]:
    """The runtime of each flavour that is sent to the device."""
    return {name: FLAVOURS[name].runtime for name in settings.exported} | {file: engine_file.runtime_of(file) for file in settings.files}


def check_quantized_once(settings: Settings) -> None:
    """Say that an ONNX file given as the model is quantized already; refuse to quantize it again. Raises UsageError, DeviceError."""
    path = Path(settings.model)
    if kind_of(path) != ".onnx" or not path.is_file() or settings.files:
        return
    try:
        found = engine_file.quantized_nodes(parse_onnx(path))
    except ExportError:
        return  # whoever reads the model says what is wrong
    if not found:
        return
    operators = ", ".join(f"{count} {name}" for name, count in found.most_common(3))
    it_is = f"{path} is quantized already ({operators})"
    as_it_is = (
        f"To judge it as it is: --model FLOAT_MODEL --engine {path}, or --model {path} --engine {path} where there is no float model."
    )
    if again := [name for name in settings.exported if FLAVOURS[name].calibrated]:
        raise UsageError(f"{it_is}, and {', '.join(again)} would quantize it a second time. {as_it_is}")
    print(f"note: {it_is}, and is read as the model itself. {as_it_is}", file=sys.stderr)


def _check_runtimes(settings: Settings, profile: DeviceProfile) -> None:
    """Refuse flavours that a device elsewhere has no runtime for. On this machine the worker says so, engine by engine."""
    absent = {
        engine_name(flavour): runtime
        for flavour, runtime in runtimes_of(settings).items()
        if runtime not in profile.runtimes and not is_simulated(runtime, profile)
    }
    if profile.transport == SSH and absent:
        needed = dict.fromkeys(absent.values())
        can = [name for name, flavour in FLAVOURS.items() if flavour.runtime in profile.runtimes]
        raise DeviceError(
            f"{profile.name} has no {' and no '.join(needed)} for {', '.join(absent)}; how to install it: harness devices probe "
            f"{profile.name}. Flavours that run there as it is: {', '.join(can) or 'none'}."
        )


def _check_threads(settings: Settings, profile: DeviceProfile) -> None:
    """Refuse more threads than CPUs: a runtime's threads spin while they wait for one that has no CPU, and a call takes minutes."""
    threads, cpus = settings.threads, profile.cpus
    if threads is not None and cpus is not None and threads > cpus and not profile.emulated:
        raise UsageError(f"--threads {threads}: {profile.name} has {cpus} CPUs that a process may use; expected at most as many.")


def _check_batches(settings: Settings, profile: DeviceProfile, shape: tuple[int, int, int]) -> None:
    """Refuse batches whose images alone do not fit here: bytes three times in this process, float32 in each engine's that runs here."""
    largest, free = max(settings.batches, default=0), Reader().free_memory()
    engines = 0 if profile.transport == SSH else len(settings.flavour_names)
    needed = (largest + FRESH) * math.prod(shape) * (3 + 4 * engines)
    if free is not None and needed > free:
        raise UsageError(
            f"--batch {largest}: the images that are timed take {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free; expected "
            "smaller batches"
        )


def describe_device(profile: DeviceProfile, observed: dict[str, object]) -> DeviceRecord:
    """The device's part of the record."""
    return DeviceRecord(
        name=profile.name, kind=profile.kind, emulated=profile.emulated, synthetic=profile.synthetic_clock, observed=observed
    )


def describe_model(twin: Twin) -> ModelRecord:
    """The twin's part of the record."""
    return ModelRecord(
        name=twin.name,
        source=twin.source,
        arch=twin.arch,
        sha256=twin.sha256,
        parameters=twin.parameters,
        nonzero_parameters=twin.nonzero_parameters,
        macs=twin.macs,
        input_shape=twin.input_shape,
        classes=twin.classes,
        claimed_eps=twin.card.get("eps"),
        remarks=list(twin.remarks),
    )


def describe_data(subject: Subject) -> DataRecord:
    """The images' part of the record."""
    return DataRecord(
        name=subject.test.name,
        sha256=subject.test.sha256,
        n=len(subject.index),
        n_clean=len(subject.test),
        class_names=list(subject.test.class_names),
        calibration_name=subject.calibration.name,
        calibration_sha256=subject.calibration.sha256,
        calibration_n=len(subject.calibration),
        remarks=list(subject.test.remarks),
    )
