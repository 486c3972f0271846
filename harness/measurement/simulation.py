"""An engine's answers without the engine: what is simulated, and the words that must stand beside every such figure."""

from __future__ import annotations

from collections.abc import Iterable

from devices.host.profile import DeviceProfile
from export.flavours import FLAVOURS
from harness.errors import UsageError

DEVICE = "host"  # where a simulation runs
RUNTIME = "onnxruntime"
GRAPH_OPTIMISATION = "disabled"
SIMULATION = f"{RUNTIME} on this computer, node by node without graph optimisation: Q/DQ round as the file says, layers compute in float"
NOT_RUN = "the engine was simulated, not run"
WARNING = f"Simulated, not run: {SIMULATION}. The answers foretell the engine's; nothing was measured on it. Run it on the device itself."


def is_simulated(runtime: str, profile: DeviceProfile) -> bool:
    """Whether a flavour of that runtime is simulated: of an emulated device there is the CPU alone."""
    return profile.emulated and runtime != RUNTIME


def check_simulated(flavours: Iterable[str], profile: DeviceProfile) -> None:
    """Refuse what has no stand-in on an emulated device: a simulation reads ONNX files.

    Raises:
        UsageError: names the flavours that are possible there.
    """
    absent = [name for name in flavours if FLAVOURS[name].build is None and is_simulated(FLAVOURS[name].runtime, profile)]
    if absent:
        can = ", ".join(name for name, flavour in FLAVOURS.items() if flavour.build is not None)
        raise UsageError(
            f"{', '.join(absent)} cannot be simulated for {profile.name}, which is emulated: {RUNTIME} stands in for the engine and reads "
            f"ONNX files, this is a saved PyTorch program. Run it on the GPU host itself (--device cuda), or choose from {can}."
        )
