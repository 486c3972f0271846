"""trtexec: every switch as wanted whichever version's defaults, raw times read as written, and no harm where it is missing or fails."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from devices.worker import trtexec
from devices.worker.trtexec import command, cross_check, read_times

# The lines of `trtexec --help` that matter, worded anew: 10 offers to turn things on, 11 to turn them off.
HELP = {
    "10": "--noDataTransfers Disable\n--useCudaGraph Use it\n--useSpinWait Actively synchronize\n--infStreams=N Streams",
    "11": "--includeDataTransfers Enable\n--noCudaGraph Disable\n--noSpinWait Disable\n--useSpinWait Deprecated\n--infStreams=N Streams",
}
CALLS = [
    {"startEnqMs": 0.1, "endEnqMs": 0.2, "h2dMs": 0.01, "computeMs": 0.25, "d2hMs": 0.005, "latencyMs": 0.265},
    {"startEnqMs": 1.1, "endEnqMs": 1.2, "h2dMs": 0.02, "computeMs": 0.5, "d2hMs": 0.004, "latencyMs": 0.524},
]


@pytest.mark.parametrize(
    ("version", "switches"),
    [("10", ["--useSpinWait", "--infStreams=1"]), ("11", ["--includeDataTransfers", "--noCudaGraph", "--useSpinWait", "--infStreams=1"])],
)
def test_copies_are_timed_and_no_graph_is_used_whatever_the_defaults(version: str, switches: list[str]) -> None:
    words = command(Path("trtexec"), Path("a.plan"), "images", (8, 3, 32, 32), Path("t.json"), HELP[version])
    assert words[:3] == ["trtexec", "--loadEngine=a.plan", "--shapes=images:8x3x32x32"]
    assert words[-len(switches) :] == switches
    assert not {"--useCudaGraph", "--noDataTransfers", "--noSpinWait"} & set(words)


@pytest.mark.parametrize("names", [("h2dMs", "d2hMs"), ("inMs", "outMs")])
def test_raw_times_are_read_with_the_names_of_either_version(names: tuple[str, str]) -> None:
    renamed = [{**call, names[0]: call["h2dMs"], names[1]: call["d2hMs"]} for call in CALLS]
    found = read_times(json.dumps(renamed))
    assert {part: values.tolist() for part, values in found.items()} == {
        "host_to_device": [10_000, 20_000],
        "compute": [250_000, 500_000],
        "device_to_host": [5_000, 4_000],
    }


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"computeMs": 1}]', '[{"h2dMs": 1, "computeMs": "soon", "d2hMs": 1}]'])
def test_what_are_no_times_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no times of trtexec"):
        read_times(text)


def program(folder: Path, body: str) -> Path:
    path = folder / "trtexec"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_it_runs_the_program_and_keeps_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell script that prints version 11's help, and else writes times to the file it is told."""
    (tmp_path / "times").write_text(json.dumps(CALLS))
    copy = f'for w in "$@"; do case $w in --exportTimes=*) cp {tmp_path}/times "${{w#*=}}";; esac; done'
    script = f'case "$1" in --help) echo "{HELP["11"]}";; *) {copy};; esac'
    found = program(tmp_path, script)
    monkeypatch.setattr(trtexec, "find_trtexec", lambda: found)
    told = cross_check(tmp_path / "a.plan", "images", (8, 3, 32, 32))
    assert told["batch"] == 8
    assert told["parts_ns"]["compute"] == [250_000, 500_000]
    assert "--noCudaGraph" in told["command"]


@pytest.mark.parametrize(("body", "reason"), [("echo FAILED; exit 3", "code 3: FAILED"), ("exit 0", "gave nothing to read")])
def test_a_program_that_fails_is_a_reason_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str) -> None:
    found = program(tmp_path, body)
    monkeypatch.setattr(trtexec, "find_trtexec", lambda: found)
    assert reason in cross_check(tmp_path / "a.plan", "images", (1, 3, 8, 8))["absent"]


def test_without_the_program_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trtexec, "JETPACK", tmp_path / "none")
    assert "not on the PATH" in cross_check(tmp_path / "a.plan", "images", (1, 3, 8, 8))["absent"]
