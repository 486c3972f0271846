"""What works on this computer, what each thing means for a run, and how to get the rest. Imports no runtime and no torch.

A new check is one function and one entry in `CHECKS`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from devices.host.errors import DeviceError
from devices.host.profile import device_names, load_profile
from devices.host.saturation import saturates
from devices.host.sysroot import Sysroot, cache_folder
from devices.host.transports.emulated import INSTALL_QEMU, find_qemu
from devices.worker.engines import ENGINES
from devices.worker.environment import Load, describe_machine
from devices.worker.observed import gpu
from devices.worker.quota import usable_cpus
from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import PROVIDERS
from devices.worker.telemetry.source import AbsentError
from harness.limits import LIMITS

PACKAGE = "edge-harness"
GIB = 2**30
ROOM_BYTES, MEMORY_BYTES = 2 * GIB, 4 * GIB  # a bench of 1,000 small images with its answers and reports; torch, a twin and its gradients
CLOCK_S, IDLE_S, WINDOWS = 0.6, 0.4, 10
SLOW = 2.0  # a call that takes so many times the median was interrupted
OF_DEVELOPERS = "dev"  # an extra that no run needs
BF16 = ("avx512_bf16", "amx_bf16", "amx_tile")  # with which torch multiplies bfloat16 on a CPU, see `harness.compute.precision`


@dataclass(frozen=True)
class Finding:
    """One thing, how it is here, what that means, and how to get or mend it where it is not as it could be.

    Attributes:
        state: `absent`: not here, and what needs it will refuse; `limited`: here, with consequences.
        essential: no run works without it.
    """

    name: str
    state: Literal["works", "limited", "absent"]
    found: str
    meaning: str = ""
    remedy: str = ""
    essential: bool = False


def examine(reader: Reader | None = None) -> dict[str, list[Finding]]:
    """Every check's findings, by topic."""
    reader = reader or Reader()
    return {topic: list(check(reader)) for topic, check in CHECKS.items()}


def as_dict(found: dict[str, list[Finding]]) -> dict[str, list[dict[str, Any]]]:
    """The findings as JSON has them."""
    return {topic: [asdict(finding) for finding in findings] for topic, findings in found.items()}


def processor(reader: Reader) -> Iterator[Finding]:
    """Instructions, and what they mean for INT8 answers and for gradients."""
    machine_facts = describe_machine(reader)
    flags, machine = machine_facts["isa_flags"], machine_facts["machine"]
    threads = usable_cpus(reader)
    yield Finding(
        "CPU", "works", f"{machine_facts['cpu_model'] or machine}, {threads} of {machine_facts['cpus']} CPUs to use", ", ".join(flags)
    )
    if saturates(flags):
        yield Finding(
            "INT8",
            "limited",
            "AVX2 without VNNI" if flags else "instructions not known",
            "onnxruntime's INT8 kernels may saturate in 16 bits: ort-int8 gives other answers here than on a CPU with VNNI or on Arm.",
            "--flavour ort-int8-precise (the same file, exact kernels) or ort-int8-rr (weights of 7 bits)",
        )
    else:
        how = next((name for name in ("avx512_vnni", "avx_vnni", "asimddp", "asimd") if name in flags), "kernels without 16-bit sums")
        yield Finding("INT8", "works", how, "INT8 answers are exact here; on a CPU with AVX2 and no VNNI, ort-int8 gives others.")
    bf16 = [flag for flag in BF16 if flag in flags]
    if bf16:
        yield Finding("bfloat16", "works", ", ".join(bf16), "Attacks and training compute gradients in it.")
    else:
        yield Finding(
            "bfloat16", "limited", "not in hardware", "Gradients are computed in float32: attacks take longer, with the same result."
        )


def packages(_reader: Reader) -> Iterator[Finding]:
    """Python and the packages that every run needs."""
    yield Finding("Python", "works", platform.python_version())
    needed = _required().get("", [])
    lacking = [name for name in needed if not _version(name)]
    if not needed:
        yield Finding(
            PACKAGE, "limited", "runs from a folder, not installed", "What it needs cannot be listed.", "pip install --editable ."
        )
    elif lacking:
        yield Finding(
            "packages", "absent", ", ".join(lacking), "No bench works without.", f"pip install {' '.join(lacking)}", essential=True
        )
    else:
        yield Finding("packages", "works", f"all {len(needed)} are here", f"torch {_version('torch')}, onnx {_version('onnx')}")


def runtimes(_reader: Reader) -> Iterator[Finding]:
    """What can run engines here."""
    for name in ENGINES:
        if find_spec(name.replace("-", "_")) is not None:
            yield Finding(name, "works", _version(name) or "version not known")
        else:
            default = name == "onnxruntime"
            remedy = f"pip install {name}" if default else f"pip install '{PACKAGE}[tensorrt]', on a machine with an NVIDIA GPU"
            yield Finding(name, "absent", "not installed", "Its flavours do not run on this computer.", remedy, essential=default)


def extras(_reader: Reader) -> Iterator[Finding]:
    """Optional parts, as the package declares them."""
    for extra, needed in _required().items():
        if extra in ("", OF_DEVELOPERS):
            continue
        lacking = [name for name in needed if not _version(name)]
        if lacking:
            yield Finding(extra, "absent", f"lacks {', '.join(lacking)}", "", f"pip install '{PACKAGE}[{extra}]'")
        else:
            yield Finding(extra, "works", ", ".join(f"{name} {_version(name)}" for name in needed))


def accelerator(reader: Reader) -> Iterator[Finding]:
    """An NVIDIA GPU."""
    card = gpu(reader)
    if card is None:
        meaning = "Training and attacks use the CPU; trt-* is built or simulated here, not run."
        yield Finding("GPU", "absent", "nvidia-smi finds none", meaning, "harness devices list names the boards and GPUs that can be used.")
    else:
        memory = f", {card['memory_bytes'] / GIB:.0f} GiB" if card["memory_bytes"] else ""
        yield Finding("GPU", "works", f"{card['name']}, driver {card['driver']}, sm{card['sm'].replace('.', '')}{memory}")


def emulation(_reader: Reader) -> Iterator[Finding]:
    """QEMU, and what emulated Arm CPUs need."""
    devices: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in device_names():
        try:
            profile_emulation = load_profile(name).emulation
        except DeviceError:  # a user's own file: `harness devices list` says what is wrong
            continue
        if profile_emulation is not None:
            devices.setdefault((profile_emulation.machine, profile_emulation.packages), []).append(name)
    for (machine, needed), names in devices.items():
        yield _emulated(machine, needed, names)


def _emulated(machine: str, needed: tuple[str, ...], names: list[str]) -> Finding:
    who, example = ", ".join(names), names[0]
    try:
        qemu = find_qemu(machine)
        profile_emulation = load_profile(example).emulation
        ready = profile_emulation is None or not needed or Sysroot.of(profile_emulation).finished
    except DeviceError as error:
        return Finding(machine, "absent", str(error).partition(". ")[0], f"Not emulated: {who}.", INSTALL_QEMU)
    if not ready:
        return Finding(
            machine, "absent", f"{Path(qemu).name}, without its packages", f"Not emulated: {who}.", f"harness devices prepare {example}"
        )
    return Finding(machine, "works", Path(qemu).name, f"Emulated, numerics only: {who}.")


def reach(reader: Reader) -> Iterator[Finding]:
    """How boards are reached."""
    if not reader.finds("ssh"):
        yield Finding("SSH", "absent", "no program ssh", "No board can be reached.", "apt-get install -y openssh-client")
        return
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # stays as it is where this user has none
    hosts = re.findall(r"^\s*Host\s+(.+)$", reader.text(str(home / ".ssh/config")), re.MULTILINE | re.IGNORECASE)
    hosts_found = f"{len(hosts)} hosts in ~/.ssh/config" if hosts else "no host in ~/.ssh/config"
    yield Finding("SSH", "works", hosts_found, "harness devices probe NAME --host USER@ADDR says what a board lacks.")


def room(reader: Reader) -> Iterator[Finding]:
    """Disk and memory."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        yield Finding(
            "temporary files",
            "absent",
            str(error.strerror),
            "No bench works without.",
            "Set TMPDIR to a folder that can be written to.",
            essential=True,
        )
    places = {"disk here": Path.cwd()}
    try:
        places["disk of the cache"] = cache_folder()
    except DeviceError as error:
        yield Finding(
            "disk of the cache", "absent", "this user has no home folder", "Nothing can be downloaded.", str(error).partition(": ")[2]
        )
    for name, folder in places.items():
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        state: Literal["works", "limited"] = "works" if free >= ROOM_BYTES and writable else "limited"
        found = f"{free / GIB:.1f} GiB free in {folder}" + ("" if writable else ", which cannot be written to")
        yield Finding(name, state, found, "", "" if state == "works" else "Free some, or work in another folder (--out).")
    if (memory := reader.free_memory()) is not None:
        few = memory < MEMORY_BYTES
        yield Finding(
            "memory", "limited" if few else "works", f"{memory / GIB:.1f} GiB free", "",
            "Stop other programs; attack fewer or smaller images." if few else "",
        )  # fmt: skip


def sensors(reader: Reader) -> Iterator[Finding]:
    """What can be sampled beside the timing."""
    there = [name for name, path in PROVIDERS.items() if _opens(path, reader)]
    power = [name for name in there if name in ("rapl", "ina3221", "tegrastats", "nvidia-smi")]
    yield Finding(
        "sensors", "works" if there else "limited", ", ".join(there) or "none", "Sampled beside the timing where a profile names them."
    )
    if not power:
        yield Finding(
            "power",
            "absent",
            "no sensor can be read",
            "Energy is not measured.",
            "RAPL's counters need root; virtual machines seldom have any.",
        )


def _opens(path: str, reader: Reader) -> bool:
    try:
        import_module(path).open_source(reader, Watch())
    except (AbsentError, OSError):
        return False
    return True


def clock(reader: Reader) -> Iterator[Finding]:
    """How steadily this computer repeats one piece of work, and who else uses it."""
    load = Load(IDLE_S, reader)
    calls = _repeat(CLOCK_S)
    load_facts = load.describe()
    spread, slow = noise(calls), float(np.quantile(calls, 0.99) / np.median(calls))
    quiet = spread <= LIMITS.latency_variation and slow <= SLOW
    yield Finding(
        "steadiness",
        "works" if quiet else "limited",
        f"the same work varies by {spread:.1%} (limit {LIMITS.latency_variation:.1%}); its slowest hundredth takes "
        f"{slow:.2f}x the median (limit {SLOW:g}x)",
        "" if quiet else "Latencies taken now may be INVALID; ratios of engines in turns survive it better.",
        "" if quiet else "Stop other programs, fix the clock, or measure on a quiet machine.",
    )
    for name, share, most in (
        ("other programs", load_facts["others_share_before"], LIMITS.other_programs),
        ("hypervisor", load_facts["steal_share"], LIMITS.steal),
    ):
        if share is not None:
            much = share > most
            yield Finding(
                name, "limited" if much else "works", f"took {share:.0%} of the CPU time (limit {most:.0%})", "",
                "" if not much else "Stop them." if name == "other programs" else "Measure on a dedicated machine.",
            )  # fmt: skip
    governor = load_facts["governor"]
    if governor not in (None, "performance"):
        yield Finding("governor", "limited", governor, "The clock follows the load.", "cpupower frequency-set -g performance")


def noise(calls: NDArray[np.int64]) -> float:
    """Standard deviation of the medians of ten windows of calls (n,), as a share of their mean."""
    medians = np.array([np.median(window) for window in np.array_split(calls, WINDOWS)])
    return float(medians.std(ddof=1) / medians.mean())


def _repeat(seconds: float) -> NDArray[np.int64]:
    """Nanoseconds of each call of the same work, about half a millisecond of it, for so long."""
    calls: list[int] = []
    block, end = bytes(1 << 18), time.perf_counter_ns() + int(seconds * 1e9)
    while (start := time.perf_counter_ns()) < end or len(calls) < 2 * WINDOWS:
        hashlib.sha256(block).digest()
        calls.append(time.perf_counter_ns() - start)
    return np.array(calls[len(calls) // 10 :], np.int64)  # the first ones warm up


def _required() -> dict[str, list[str]]:
    """Extra -> packages that it needs, "" for those that are always needed; empty where this package is not installed."""
    found: dict[str, list[str]] = {}
    try:
        requirements = requires(PACKAGE) or []
    except PackageNotFoundError:
        return found
    for line in requirements:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name is not None and name[0] != PACKAGE:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


CHECKS: dict[str, Callable[[Reader], Iterator[Finding]]] = {
    "processor": processor,
    "packages": packages,
    "runtimes": runtimes,
    "extras": extras,
    "accelerator": accelerator,
    "emulation": emulation,
    "boards": reach,
    "room": room,
    "sensors": sensors,
    "clock": clock,
}
