"""Device profiles for people: the list, and one profile in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from devices.host.compare import declared
from devices.host.profile import DeviceProfile, Peak

NONE = "–"


def overview(profiles: Sequence[DeviceProfile]) -> RenderableType:
    """One row each: name with aliases, what computes, how it is reached, whether anyone ran the harness on it."""
    table = Table(box=None, pad_edge=False)
    for column in ("device", "kind", "reached by", "verified", "description"):
        table.add_column(column, overflow="fold", no_wrap=column != "description")
    for p in profiles:
        verified = "yes" if p.verified_on_hardware else "no"
        table.add_row(*map(Text, (p.name, p.kind, _reached(p), verified, p.description)))
    return table


def in_full(profile: DeviceProfile) -> RenderableType:
    """Everything that the profile declares, by chapter."""
    parts: list[RenderableType] = [Text(f"{profile.name}: {profile.description}", style="bold")]
    for title, facts in _chapters(profile):
        rows = [(name, value) for name, value in facts if value]
        if rows:
            parts += [Text(f"\n{title}", style="bold"), _facts(rows)]
    if profile.peaks:
        parts += [Text("\nPeaks (vendor's figures, for the roofline)", style="bold"), _peaks(profile.peaks)]
    return Group(*parts, Text("\nProvenance", style="bold"), Text(profile.provenance))


def _reached(profile: DeviceProfile) -> str:
    return f"{profile.transport}{', --emulate' if profile.emulation and not profile.emulated else ''}"


def _chapters(profile: DeviceProfile) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    identity, power, clocks, sensors, limits = profile.identity, profile.power, profile.clocks, profile.telemetry, profile.limits
    yield (
        "Identity",
        [
            ("aliases", ", ".join(profile.aliases)),
            ("kind", profile.kind),
            ("SoC", identity.soc or ""),
            ("DLA cores", str(identity.dla_cores or "")),
            ("memory", "shared by CPU and GPU" if identity.shared_memory else ""),
            ("capabilities", ", ".join(profile.capabilities)),
            ("runtimes", ", ".join(profile.runtimes)),
            ("reached by", _reached(profile)),
            ("host alias", profile.host or ""),
            ("threads", str(profile.cpu.threads or "")),
            ("bound to CPUs", ", ".join(map(str, profile.cpu.affinity))),
            ("verified", "yes" if profile.verified_on_hardware else "no: nobody ran the harness on the hardware yet"),
        ],
    )
    yield "Declared, and compared before and after a run", list(declared(profile).items())
    yield (
        "Power and clocks",
        [
            ("modes", ", ".join(f"{name} ({number})" for name, number in power.modes.items())),
            ("show the mode", " ".join(power.query)),
            ("select the mode", power.remedy() if power.required else ""),
            ("show the clocks", " ".join(clocks.query)),
            ("lock them", " ".join(clocks.lock)),
            ("let them go", " ".join(clocks.restore)),
        ],
    )
    yield (
        "Sampled beside the timing",
        [
            ("providers", f"{', '.join(sensors.providers)}; every {sensors.period_ms} ms" if sensors.providers else ""),
            ("energy from", " + ".join(sensors.rails) or ("rapl, else the GPU" if "rapl" in sensors.providers else "")),
            ("throttling", ", ".join(sensors.throttle_counters)),
        ],
    )
    yield (
        "A measurement counts only while",
        [
            ("it begins at", f"{limits.start_temperature_c:g} °C or less, after {limits.cooldown_s:g} s of cooling at most")
            if limits.start_temperature_c is not None
            else ("", ""),
            ("it grows hotter", f"by {limits.rise_c:g} °C or less" if limits.rise_c is not None else ""),
            ("other programs", f"take {limits.others_share:.0%} of the CPU time or less"),
            ("the hypervisor", f"takes {limits.steal_share:.0%} or less"),
            ("its clock falls", f"by {limits.frequency_drop:.0%} or less{', locked by 2%' if clocks.locked else ''}"),
        ]
        if sensors.providers
        else [],
    )
    if profile.emulation is not None:
        yield "Emulation", [("CPU model", profile.emulation.cpu), ("packages", ", ".join(profile.emulation.packages))]


def _facts(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim", min_width=18)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _peaks(peaks: Sequence[Peak]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("unit", "power mode", "figure", "source"):
        table.add_column(column, overflow="fold")
    for peak in peaks:
        figures = [f"{name} {tops:g} TOPS" for name, tops in peak.tops.items()]
        figures += [f"{peak.gb_per_s:g} GB/s"] if peak.gb_per_s else []
        table.add_row(*map(Text, (peak.unit, peak.power_mode or "any", ", ".join(figures), peak.source)))
    return table
