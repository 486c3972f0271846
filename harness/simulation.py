"""An engine's answers without the engine: what is simulated, and the words that must stand beside every such figure."""

from __future__ import annotations

from devices.profile import DeviceProfile

DEVICE = "host"  # where a simulation runs
RUNTIME = "onnxruntime"
GRAPH_OPTIMISATION = "disabled"
SIMULATION = f"{RUNTIME} on this computer, node by node without graph optimisation: Q/DQ round as the file says, layers compute in float"
NOT_RUN = "the engine was simulated, not run"
WARNING = f"Simulated, not run: {SIMULATION}. The answers foretell the engine's; nothing was measured on it. Run it on the device itself."


def is_simulated(runtime: str, profile: DeviceProfile) -> bool:
    """Whether a flavour of that runtime is simulated: of an emulated device there is the CPU alone."""
    return profile.emulated and runtime != RUNTIME
