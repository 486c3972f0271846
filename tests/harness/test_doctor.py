"""`harness doctor`: each thing is told as it is on the machine that is looked at, and what is not here comes with the way to get it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from commandline import harness

from devices.host.profile import device_names
from devices.worker.engines import ENGINES
from devices.worker.reader import Reader
from harness import doctor

ROOT = Path(__file__).parents[2]


def machine(folder: Path, cpuinfo: str) -> Reader:
    """A recorded machine with that processor."""
    (folder / "proc").mkdir(parents=True)
    (folder / "proc/cpuinfo").write_text(cpuinfo)
    return Reader(folder)


def by_name(found) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize(
    ("flags", "int8", "bf16"),
    [
        ("flags : sse4_1 avx avx2 fma", "limited", "limited"),
        ("flags : sse4_1 avx avx2 fma avx512f avx512bw", "limited", "limited"),
        ("flags : sse4_1 avx avx2 fma avx512f avx512_vnni avx512_bf16", "works", "works"),
        ("flags : sse4_1 avx avx2 avx_vnni", "works", "limited"),
        ("flags : sse4_1", "works", "limited"),
        ("Features : fp asimd asimdhp asimddp", "works", "limited"),
    ],
)
def test_what_the_instructions_mean(flags, int8, bf16, tmp_path):
    found = by_name(doctor.processor(machine(tmp_path, f"model name : One\n{flags}\n")))
    assert (found["INT8"].state, found["bfloat16"].state) == (int8, bf16)
    assert ("ort-int8-precise" in found["INT8"].remedy) == (int8 == "limited")
    assert "One" in found["CPU"].found


def test_nothing_heavy_is_imported_and_the_clock_is_watched_for_about_a_second():
    heavy = ("torch", "onnx", "onnxruntime", "pandas", "scipy", "matplotlib")
    code = f"import sys\nfrom harness.doctor import examine\nexamine()\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert doctor.CLOCK_S + doctor.IDLE_S <= 1.2


def test_json_has_every_topic_and_the_text_every_finding(capsys):
    assert harness("doctor", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == list(doctor.CHECKS)
    assert harness("doctor") == 0
    text = capsys.readouterr().out
    for topic, findings in told.items():
        assert topic in text and findings
        for finding in findings:
            assert finding["name"] in text
            assert finding["state"] == "works" or finding["remedy"] or finding["meaning"], finding


def test_every_extra_of_the_package_is_told_but_the_developers():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {finding.name for finding in doctor.extras(Reader())} == set(extras) - {"dev"}


def test_a_lacking_extra_comes_with_its_command(monkeypatch):
    real = doctor.version

    def without_ray(name: str) -> str:
        if name == "ray":
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", without_ray)
    sweep = by_name(doctor.extras(Reader()))["sweep"]
    assert (sweep.state, sweep.found, sweep.remedy) == ("absent", "lacks ray", "pip install 'edge-harness[sweep]'")


def test_without_the_default_runtime_the_exit_code_says_so(monkeypatch, capsys):
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    assert harness("doctor") == 4
    assert "pip install onnxruntime" in capsys.readouterr().out
    assert {finding.name for finding in doctor.runtimes(Reader())} == set(ENGINES)


def test_a_package_that_no_bench_works_without_is_named(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "foolbox" else real(name))
    found = by_name(doctor.packages(Reader()))["packages"]
    assert found.essential and found.state == "absent" and found.remedy == "pip install foolbox"


def test_without_qemu_and_ssh_the_way_to_get_them_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = list(doctor.emulation(Reader()))
    assert {finding.state for finding in found} == {"absent"}
    assert all("apt-get install" in finding.remedy for finding in found)
    told = " ".join(finding.meaning for finding in found)
    assert "raspberry-pi-4" in told and "x86-avx2" in told and set(device_names()) & set(told.replace(".", "").replace(",", "").split())
    (ssh,) = doctor.reach(Reader())
    assert ssh.state == "absent" and "openssh-client" in ssh.remedy


def test_an_emulation_without_its_packages_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find_qemu", lambda machine: f"/usr/bin/qemu-{machine}-static")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arm = by_name(doctor.emulation(Reader()))["aarch64"]
    assert arm.state == "absent" and arm.remedy.startswith("harness devices prepare ")


def test_a_full_disk_and_little_memory_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: doctor.shutil._ntuple_diskusage(10, 9, 1))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   1048576 kB\n")
    found = by_name(doctor.room(Reader(tmp_path)))
    assert {finding.state for finding in found.values()} == {"limited"}
    assert found["memory"].found == "1.0 GiB free"


def test_noise_is_the_spread_of_the_windows_medians():
    steady = np.full(1000, 500_000)
    assert doctor.noise(steady) == 0
    medians = np.array([1.0, 1.1] * 5)
    assert doctor.noise(np.repeat(medians * 1e6, 100).astype(np.int64)) == pytest.approx(medians.std(ddof=1) / medians.mean())
    spikes = steady.copy()
    spikes[::20] *= 50
    assert doctor.noise(spikes) == 0, "single slow calls are told apart: the slowest hundredth"


@pytest.mark.parametrize(
    ("calls", "state"), [([1.0] * 200, "works"), ([1.0] * 100 + [1.2] * 100, "limited"), ([1.0] * 190 + [9.0] * 10, "limited")]
)
def test_an_unsteady_clock_is_told(calls, state, monkeypatch):
    monkeypatch.setattr(doctor, "_repeat", lambda seconds: np.array([call * 1e6 for call in calls], np.int64))
    monkeypatch.setattr(doctor, "IDLE_S", 0.0)
    steadiness = by_name(doctor.clock(Reader()))["steadiness"]
    assert steadiness.state == state and bool(steadiness.remedy) == (state == "limited")


def test_a_user_without_a_home_learns_what_that_costs(monkeypatch, capsys):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    found = by_name([*doctor.reach(Reader()), *doctor.room(Reader())])
    assert (found["disk of the cache"].state, found["disk of the cache"].remedy) == ("absent", "set HOME or XDG_CACHE_HOME")
    assert found["disk here"].state == "works"


def test_without_a_temporary_folder_no_bench_works(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/here"])
    temporary = by_name(doctor.room(Reader()))["temporary files"]
    assert (temporary.state, temporary.essential) == ("absent", True) and "TMPDIR" in temporary.remedy
