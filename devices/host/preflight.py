"""Before any work: is the device there, and is it what its profile says?"""

from __future__ import annotations

from dataclasses import replace

from devices.host.errors import DeviceError
from devices.host.gpus import require_gpu
from devices.host.profile import DeviceProfile
from devices.host.transports import Say, connect

SKEW_S = 5.0  # a clock that is wrong by more is spoken of


def reach(profile: DeviceProfile, say: Say) -> DeviceProfile:
    """Reach the device once.

    Args:
        profile: what is declared.
        say: called with a line when there is something to know.

    Returns:
        the profile as it turned out: with the threads that the device has, without the runtimes that it has not, and emulated where it
        shows itself to be.

    Raises:
        DeviceError: it cannot be reached, or is another kind of machine; the message names the remedy.
    """
    if profile.kind == "cuda" and profile.transport == "local":
        require_gpu(profile)
    try:
        with connect(profile, say) as transport:
            facts = transport.facts()
    except DeviceError as error:
        if profile.emulation is None or profile.emulated:
            raise
        raise DeviceError(f"{error} (without the device, its CPU can be emulated here: --emulate)") from error
    if "numpy" in facts.absent:
        raise DeviceError(
            f"{profile.name} has no numpy for {profile.python}; no job runs without. To install it: harness devices probe {profile.name}"
        )
    if facts.emulator is not None and not profile.emulated:
        say(f"{profile.name} runs under an emulator ({facts.emulator}): latency and memory are withheld")
        profile = replace(profile, emulated_host=True)
    if abs(facts.clock_skew_s) > SKEW_S:
        how = f"{abs(facts.clock_skew_s):.0f} s {'ahead of' if facts.clock_skew_s > 0 else 'behind'}"
        say(f"the clock of {profile.name} is {how} this machine's; the record keeps it, nothing depends on it")
    runtimes = tuple(name for name in profile.runtimes if name not in facts.absent)
    return replace(profile, runtimes=runtimes, cpu=replace(profile.cpu, threads=profile.cpu.threads or facts.cpus))
