"""Energy against integrals that are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.worker.telemetry.series import Series, Telemetry
from harness.measurement.energy import difference, energy, integral, most_turns

S = 1_000_000_000
TIMES = np.arange(0, 11 * S, S // 10)
finite = st.floats(-1e3, 1e3)


def telemetry(idle_ns: tuple[int, int] = (0, S), **providers: dict[str, np.ndarray]) -> Telemetry:
    return Telemetry(100, 0.0, idle_ns, {name.replace("_", "-"): Series(TIMES, values) for name, values in providers.items()})


@given(finite, finite, st.integers(0, 9 * S), st.integers(S // 2, S))
def test_a_straight_line_is_integrated_exactly(slope: float, offset: float, start_ns: int, length_ns: int) -> None:
    """∫ (a t + b) dt = a (t1² - t0²) / 2 + b (t1 - t0), wherever the window lies between the samples."""
    t0, t1 = start_ns / S, (start_ns + length_ns) / S
    found = integral(TIMES, slope * TIMES / S + offset, start_ns, start_ns + length_ns)
    assert found == pytest.approx(slope * (t1**2 - t0**2) / 2 + offset * (t1 - t0), abs=1e-6)


@given(st.floats(0.1, 60), st.integers(10, 1000), st.integers(0, 5 * S))
def test_every_turn_holds_the_samples_that_its_energy_needs(measure_s: float, period_ms: int, start_ns: int) -> None:
    turn_ns = int(measure_s * S / most_turns(measure_s, period_ms))
    times = np.arange(0, start_ns + turn_ns + 2 * S, period_ms * 1_000_000)
    found = integral(times, np.full(len(times), 5.0), start_ns, start_ns + turn_ns)
    if most_turns(measure_s, period_ms) > 1:
        assert found == pytest.approx(5 * turn_ns / S)


@given(st.integers(0, 4 * S), st.integers(S, 5 * S), st.integers(S // 5, 4 * S))
def test_two_parts_make_the_whole(start_ns: int, length_ns: int, cut_ns: int) -> None:
    power = 5 + np.sin(3 * TIMES / S)
    end_ns, middle = start_ns + length_ns, start_ns + min(max(cut_ns, length_ns * 2 // 5), length_ns * 3 // 5)
    parts = [integral(TIMES, power, start_ns, middle), integral(TIMES, power, middle, end_ns)]
    assert sum(part for part in parts if part is not None) == pytest.approx(integral(TIMES, power, start_ns, end_ns), rel=1e-3)


def test_a_sine_is_integrated_to_a_thousandth() -> None:
    power = 10 + 4 * np.sin(2 * np.pi * TIMES / S / 2)
    exact = 10 * 5 + 4 * (np.cos(0) - np.cos(np.pi * 5)) / np.pi
    assert integral(TIMES, power, 0, 5 * S) == pytest.approx(exact, rel=2e-3)


def test_samples_that_are_missing_are_bridged() -> None:
    power = 2.0 * TIMES / S
    power[10:14] = np.nan
    assert integral(TIMES, power, S // 2, 3 * S) == pytest.approx(9 - 0.25)


@pytest.mark.parametrize(("start", "end"), [(-S, S), (9 * S, 12 * S), (S, S + S // 5)], ids=["before", "after", "too few samples"])
def test_no_figure_is_made_up(start: int, end: int) -> None:
    assert integral(TIMES, np.ones(len(TIMES)), start, end) is None


@given(st.floats(0, 1e6), st.floats(0.1, 500.0))
def test_a_counters_difference_is_power_times_time(offset: float, watts: float) -> None:
    assert difference(TIMES, offset + watts * TIMES / S, S, 4 * S) == pytest.approx(3 * watts, rel=1e-6, abs=1e-6)
    assert difference(TIMES, offset + watts * TIMES / S, S, 20 * S) is None


def test_rails_are_added_and_rest_is_taken_off() -> None:
    """4 W at rest, 10 W in the window of 2 s, 1,000 images: 20 J, 12 J of them above rest."""
    busy = (TIMES >= 2 * S) & (TIMES <= 6 * S)
    told = telemetry(
        ina3221={"power_w:A": np.where(busy, 7.0, 3.0), "power_w:B": np.where(busy, 3.0, 1.0), "power_w:C": np.full(len(TIMES), 9.0)}
    )
    found = energy(told, ("A", "B"), [(3 * S, 5 * S)], 1000)
    assert found is not None
    assert (found.sensor, found.inferences) == ("A + B", 1000)
    assert (found.gross_mj, found.net_mj) == (pytest.approx(20.0), pytest.approx(12.0))
    assert (found.mean_w, found.idle_w) == (pytest.approx(10.0), pytest.approx(4.0))


def test_without_rails_the_packages_counters_come_before_the_gpus_power() -> None:
    told = telemetry(
        rapl={"energy_j:package-0": 30.0 * TIMES / S, "energy_j:package-1": 10.0 * TIMES / S},
        nvidia_smi={"power_w:gpu": np.full(len(TIMES), 100.0)},
    )
    found = energy(told, (), [(2 * S, 4 * S)], 8)
    assert found is not None
    assert (found.sensor, found.gross_mj, found.net_mj) == ("package-0 + package-1", pytest.approx(10_000.0), pytest.approx(0.0, abs=1e-6))
    only_gpu = energy(telemetry(nvidia_smi={"power_w:gpu": np.full(len(TIMES), 100.0)}), (), [(2 * S, 4 * S)], 8)
    assert only_gpu is not None
    assert only_gpu.sensor == "gpu"


def test_a_rail_that_is_missing_gives_no_figure() -> None:
    told = telemetry(ina3221={"power_w:A": np.ones(len(TIMES))})
    assert energy(told, ("A", "B"), [(2 * S, 4 * S)], 8) is None
    assert energy(telemetry(), (), [(2 * S, 4 * S)], 8) is None


def test_rest_counts_from_the_first_sample_on() -> None:
    """Opening the sensors takes a moment: rest begins before anything is sampled."""
    found = energy(telemetry((-S, 2 * S), ina3221={"power_w:A": np.where(TIMES <= 2 * S, 1.0, 3.0)}), ("A",), [(3 * S, 5 * S)], 2)
    assert found is not None
    assert (found.idle_w, found.net_mj) == (pytest.approx(1.0), pytest.approx(2000.0))


def test_where_rest_was_not_watched_only_the_gross_is_given() -> None:
    found = energy(telemetry((0, 0), ina3221={"power_w:A": np.ones(len(TIMES))}), ("A",), [(2 * S, 4 * S)], 1)
    assert found is not None
    assert (found.gross_mj, found.net_mj, found.idle_w) == (pytest.approx(2000.0), None, None)


def test_energy_of_several_turns_is_that_of_their_windows_alone() -> None:
    """1 W while the engine had its turns, 9 W while another one had them."""
    watts = np.where((TIMES // S) % 2 == 0, 1.0, 9.0)
    steps = telemetry((0, 0), ina3221={"power_w:A": watts})
    inside = [(2 * S + S // 10, 2 * S + 8 * S // 10), (4 * S + S // 10, 4 * S + 8 * S // 10)]
    found = energy(steps, ("A",), inside, 10)
    assert found is not None
    assert found.mean_w == pytest.approx(1.0)
    assert found.gross_mj == pytest.approx(1e3 * 1.4 / 10)


TWO_TURNS = [(2 * S, 4 * S), (6 * S, 8 * S)]
SENSELESS = {
    "a counter that stands": ("energy_j:package-0", np.full(len(TIMES), 7.0)),
    "a counter that stops": ("energy_j:package-0", np.minimum(30.0 * TIMES / S, 150.0)),
    "a counter that begins again, at a number that nobody told": ("energy_j:package-0", 30.0 * TIMES / S - 150.0 * (TIMES > 7 * S)),
    "no power": ("power_w:gpu", np.zeros(len(TIMES))),
    "less than no power": ("power_w:gpu", np.full(len(TIMES), -0.2)),
}


@pytest.mark.parametrize("what", SENSELESS)
def test_no_energy_and_less_is_no_figure(what: str) -> None:
    """No computation is free: such a figure would pass every limit."""
    channel, values = SENSELESS[what]
    assert energy(telemetry(rapl={channel: values}), (), TWO_TURNS, 8) is None
