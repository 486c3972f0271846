"""Whether onnxruntime's INT8 kernels can saturate on a CPU: those for AVX2 and AVX-512 without VNNI add two products in 16 bits.

From SSE4 and Arm, and from VNNI, come exact integers.
"""

from __future__ import annotations

from collections.abc import Collection

from devices.host.profile import DeviceProfile
from devices.host.transports import LOCAL
from devices.worker.environment import describe_machine

EXACT = frozenset({"avx512_vnni", "avx_vnni"})
ARM = "asimd"
X86 = ("x86_64", "i686")


def saturates(flags: Collection[str]) -> bool:
    """What the extensions of a CPU (names of `environment.ISA_FLAGS`) say; none at all are not known, and it may."""
    return not flags or ("avx2" in flags and EXACT.isdisjoint(flags))


def may_saturate(profile: DeviceProfile) -> bool:
    """The same of a device: from what was seen of its CPU; before it is reached, from this computer where it is the device, else from what
    its profile says.
    """
    if profile.isa_flags:
        return saturates(profile.isa_flags)
    if profile.transport == LOCAL:
        return saturates(describe_machine()["isa_flags"])
    declared = profile.cpu.isa
    return profile.machine in (None, *X86) and ARM not in declared and "avx2" not in profile.cpu.without and EXACT.isdisjoint(declared)
