"""Before any work: is the device there, and is it what its profile says?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from devices.host.compare import Mismatch, mismatches, voids_time_only
from devices.host.errors import DeviceError
from devices.host.gpus import ON_GPU, require_gpu
from devices.host.profile import Cpu, DeviceProfile
from devices.host.transports import Facts, Say, connect
from devices.worker.loadgen import INSTALL, PACKAGE

SKEW_S = 5.0  # a clock that is wrong by more is spoken of


def preflight(profile: DeviceProfile, say: Say, runtimes: Collection[str] = (), *, loadgen: bool = False) -> DeviceProfile:
    """Reach the device once.

    Args:
        profile: what is declared.
        say: called with a line when there is something to know, such as a power mode that is not the one declared.
        runtimes: that will run; the versions of others do not matter.
        loadgen: whether MLPerf LoadGen is to drive the engines too.

    Returns:
        the profile as it turned out: with the machine, its extensions, CPUs and the threads that the device has, without the runtimes
        that it has not, and emulated where it shows itself to be.

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
    if facts.gpu_barred and ON_GPU & set(runtimes or profile.runtimes):
        raise DeviceError(f"{profile.name}: {facts.gpu_barred}")
    if loadgen and PACKAGE in facts.absent:
        say(f"{profile.name} has no MLPerf LoadGen for its Python: the engines are measured without it. To have it, run there: {INSTALL}")
    if facts.emulator is not None and not profile.emulated:
        say(f"{profile.name} runs under an emulator ({facts.emulator}): latency and memory are withheld")
        profile = replace(profile, emulated_host=True)
    if abs(facts.clock_skew_s) > SKEW_S:
        how = f"{abs(facts.clock_skew_s):.0f} s {'ahead of' if facts.clock_skew_s > 0 else 'behind'}"
        say(f"the clock of {profile.name} is {how} this machine's; the record keeps it, nothing depends on it")
    for wrong in differences(profile, facts, runtimes):
        void = "latency and energy will not count" if voids_time_only(wrong.what) else "the verdict will be UNTRUSTED"
        say(f"{profile.name} is not as declared, so {void}: {in_words(wrong)}")
    there = tuple(name for name in profile.runtimes if name not in facts.absent)
    seen = tuple(facts.state.get("isa_flags") or ())
    cpus = max(facts.cpus, len(facts.allowed))
    return replace(profile, runtimes=there, machine=facts.machine, isa_flags=seen, cpus=cpus, cpu=_cpu(profile, facts, say))


def _cpu(profile: DeviceProfile, facts: Facts, say: Say) -> Cpu:
    """The CPUs and threads of the engine: those declared; else as many as compute at once, of the large CPUs where there are small ones."""
    cpu = profile.cpu
    if facts.allowed and (absent := sorted(set(cpu.affinity) - set(facts.allowed))):
        there, not_there = (", ".join(map(str, numbers)) for numbers in (facts.allowed, absent))
        raise DeviceError(f"cpu.affinity of {profile.name} has CPU {not_there}; expected some of those that may be used there: {there}")
    affinity = cpu.affinity
    if not affinity and cpu.threads is None and len(facts.fast) < len(facts.allowed):
        affinity = facts.fast
        numbers = ", ".join(map(str, affinity))
        say(f"{profile.name} has large and small CPUs: the engine gets the large ones, {numbers}. Others: cpu.affinity of its profile")
    threads = cpu.threads or min(facts.cpus, len(affinity) or facts.cpus)
    return replace(cpu, threads=threads, affinity=affinity)


def differences(profile: DeviceProfile, facts: Facts, runtimes: Collection[str] = ()) -> list[Mismatch]:
    """Where the device as it is before any work differs from its profile; nothing where its state was not looked at."""
    found = [
        wrong for runtime in (runtimes or ("",)) for wrong in mismatches(profile, facts.state, {}, runtime, facts.versions.get(runtime))
    ]
    return list(dict.fromkeys(found))


def in_words(wrong: Mismatch) -> str:
    """A difference as a sentence, with its remedy."""
    return f"{wrong.what}: declared {wrong.declared}, observed {wrong.observed}. {wrong.remedy}"
