"""What a run was about, as the record describes it: device, network and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.records.parts import Mismatch, Part


def hardware(seen: Mapping[str, Any]) -> str:
    """Which machine it is, as it says itself: CPU, GPU, power mode, CPUs to use, the instruction sets that choose kernels.

    Args:
        seen: of `devices.worker.environment.describe_machine` there, and of the device's probe.
    """
    named = [named_part(seen[key]) for key in ("cpu_model", "gpu", "power_mode") if seen.get(key)]
    cpus = min(filter(None, (seen.get("quota_cpus"), len(seen.get("affinity") or ()) or seen.get("cpus"))), default=None)
    return ", ".join(filter(None, [*named, f"{cpus:g} CPUs" if cpus else "", " ".join(seen.get("isa_flags") or ())]))


def named_part(seen: object) -> str:
    """What a part of a machine is called: of a GPU, which is told with its driver and the clock of that moment, its name."""
    return str(seen["name"]) if isinstance(seen, Mapping) and "name" in seen else str(seen)


class DeviceRecord(Part):
    """The device a run measured. `synthetic`: its clock is made up. `emulated`: its latency is withheld."""

    name: str
    kind: str
    emulated: bool
    synthetic: bool
    observed: dict[str, Any] = Field(description="what the worker saw: CPU model, ISA flags, governor, load, threads, versions")
    declared: dict[str, str] = Field(default={}, description="what the profile declares of it and is compared")
    before: dict[str, Any] = Field(default={}, description="its state before the first engine was loaded")
    after: dict[str, Any] = Field(default={}, description="its state after the last engine was measured")
    mismatches: list[Mismatch] = Field(default=[])
    recorded_from: str | None = Field(
        default=None, description="the state was read from recorded files in this folder, not from the device"
    )

    @property
    def timed_on(self) -> str:
        """The hardware that its times are of, since one name may stand for many machines (`host` is every computer); of an emulated CPU or
        a made-up clock none.
        """
        return "" if self.emulated or self.synthetic else hardware({**self.before, **self.observed})

    @property
    def timed_with(self) -> str:
        """The threads that its times are of; nothing where they are not known, or the times are none."""
        threads = self.observed.get("threads")
        return "" if self.emulated or self.synthetic or not threads else f"{threads} thread{'' if threads == 1 else 's'}"


class ModelRecord(Part):
    """The twin. `sha256` is that of the weights' file; `macs` are multiply-accumulates of convolutions and linear layers per image."""

    name: str
    source: Literal["zoo", "safetensors", "pt2", "onnx"]
    arch: str | None
    sha256: str
    parameters: int
    nonzero_parameters: int
    macs: int
    input_shape: tuple[int, int, int] = Field(description="channels, height, width")
    classes: int
    claimed_eps: str | None = Field(default=None, description="radius of its card's claim; None: it has none")
    remarks: list[str] = Field(default_factory=list, description="what a reader should know of the network before believing a figure")


class DataRecord(Part):
    """The images. `n` are attacked, all `n_clean` are classified; none of the calibration images is among them."""

    name: str
    sha256: str
    n: int
    n_clean: int
    class_names: list[str]
    calibration_name: str
    calibration_sha256: str
    calibration_n: int
    remarks: list[str] = Field(default_factory=list, description="what a reader should know of the images before believing a figure")
