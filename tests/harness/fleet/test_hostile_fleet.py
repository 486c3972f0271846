"""A fleet's stored files, changed one field at a time and as a whole: every one ends with an exit code of its own and one line, or is
gone on with; never a fault of this program, and nothing is written elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from commandline import harness

from harness import spine
from harness.ending import DEVICE_FAILED, INTERNAL, USAGE, end_well
from harness.errors import UntrustedError, UsageError
from harness.fleet import run as fleet
from harness.fleet.members import Member, read_fleet
from harness.fleet.run import run_member as run
from harness.records import RECORD
from harness.run import RunFolder
from harness.settings import FLEET, Settings

pytestmark = pytest.mark.slow(40)

COMMON = Settings(model="resnet8", attacks=("fgsm",), samples=12, batches=(1,), threads=1)
DEVICES = ("null", "host")
ABSENT = object()
HARD = "\x1b[31m\r\n\u202e"
WRONG: tuple[Any, ...] = (ABSENT, None, -7, 1 << 63, 0.5, "", "../..", HARD + "x" * 70_000, [[]], {"a": 1})
# Not what `json.dumps` writes, or what no reader can hold.
RAW = {
    "empty": b"", "no JSON": b"{", "no text": b"\xff\xfe\x00", "a list": b"[]", "null": b"null", "deep": b"[" * 100_000,
    "deep inside": b'{"schema": 1, "settings": ' + b"[" * 100_000, "a long number": b'{"schema": ' + b"9" * 10_000 + b"}",
}  # fmt: skip
CONSTANTS = ("NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"')
Place = tuple[str | int, ...]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet's folder, its runs just begun."""
    folder = tmp_path_factory.mktemp("fleet") / "run"
    folder.mkdir()
    entries = [fleet.Entry(member=Member(name=name), folder=name) for name in DEVICES]
    fleet.FleetRecord(created="", command=["harness"], settings=COMMON.model_dump(mode="json"), members=entries).save(folder)
    for entry in entries:
        spine.open_only(entry.member.settings(COMMON), folder / entry.folder, ["harness"])
    return folder


@pytest.fixture
def folder(opened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which no member is run and no set is made: each of them is a bench, which has tests of its own."""
    monkeypatch.setattr(fleet, "run_member", lambda folder, name, running: (DEVICE_FAILED, "lost"))
    monkeypatch.setattr("harness.plugins.load", lambda modules: None)
    monkeypatch.setattr(spine, "prepare", lambda settings, out, command: spine.open_only(settings, out, command))
    return Path(shutil.copytree(opened, tmp_path / "run"))


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*here, key)
        yield from places(inner, (*here, key))


def changed(message: Any, place: Place, value: Any) -> Any:
    copy = deepcopy(message)
    at = copy
    for key in place[:-1]:
        at = at[key]
    if value is ABSENT:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return copy


def ends_well(command: Callable[[], object], capsys: pytest.CaptureFixture[str], what: object) -> int:
    """Its exit code: 0, or one that a user or a device can be blamed for with one line that says why."""
    code = end_well(command, debug=False)
    said = capsys.readouterr().err.splitlines()
    assert code in (0, USAGE, UntrustedError.exit_code, DEVICE_FAILED), (what, code, said)
    assert len([line for line in said if line.startswith("harness: ")]) == (code != 0) and all(map(str.isprintable, said)), (what, said)
    return code


def resumed(folder: Path, file: Path, text: str | bytes, capsys: pytest.CaptureFixture[str], what: object) -> int:
    """`bench --resume` of a fleet one of whose files holds that instead; afterwards the folder is as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    beside = set(folder.parent.iterdir())
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    code = ends_well(lambda: fleet.resume(folder), capsys, what)
    assert set(folder.parent.iterdir()) == beside, what
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    return code


def test_as_it_is_every_member_is_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resumed(folder, folder / FLEET, (folder / FLEET).read_text(), capsys, "as it is") == 0
    assert harness("bench", "--resume", str(folder)) == DEVICE_FAILED


@pytest.mark.parametrize("file", [FLEET, f"{DEVICES[0]}/{RECORD}", f"{DEVICES[1]}/{RECORD}"])
@pytest.mark.parametrize("kind", RAW)
def test_a_file_that_is_no_record_is_refused(file: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resumed(folder, folder / file, RAW[kind], capsys, kind) != 0


def _stored() -> list[Place]:
    entries = [fleet.Entry(member=Member(name=name), folder=name) for name in DEVICES]
    record = fleet.FleetRecord(created="", command=["harness"], settings=COMMON.model_dump(mode="json"), members=entries)
    return list(places(json.loads(record.model_dump_json(by_alias=True))))


@pytest.mark.parametrize(
    ("turn", "place"), enumerate(_stored()), ids=lambda value: value if isinstance(value, int) else ".".join(map(str, value))
)
def test_no_field_of_a_stored_fleet_can_do_harm(turn: int, place: Place, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field meets half of the wrong values, its neighbour the other half."""
    message = json.loads((folder / FLEET).read_text())
    for wrong in WRONG[turn % 2 :: 2]:
        resumed(folder, folder / FLEET, json.dumps(changed(message, place, wrong)), capsys, (place, repr(wrong)[:80]))
    for constant in CONSTANTS[turn % 2 :: 2]:
        text = json.dumps(changed(message, place, "CONSTANT")).replace('"CONSTANT"', constant)
        assert resumed(folder, folder / FLEET, text, capsys, (place, constant)) == UntrustedError.exit_code


def test_no_field_of_a_members_record_can_do_harm(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that say which computer its device is, and whether it has finished; each with some of the wrong values, in turn."""
    file = folder / DEVICES[1] / RECORD
    message = json.loads(file.read_text())
    for number, place in enumerate([("schema",), ("status",), ("settings",), *(("settings", key) for key in message["settings"])]):
        for wrong in WRONG[number % 3 :: 3]:
            resumed(folder, file, json.dumps(changed(message, place, wrong)), capsys, (place, repr(wrong)[:80]))


@pytest.mark.parametrize(
    "text",
    [
        "", "\x00", "[[device]]", "device = 1", "[device]\nname = 'null'", "[[device]]\nname = 3", "[[device]]\nname = nan",
        "[[device]]\nname = ''", "[[device]]\nname = '../null'", "[[device]]\nname = 'null\\u001b'", '[[device]]\nname = "null\\u001b[31m"',
        "[[device]]\nname = 'null'\nhost = 5", "[[device]]\nname = 'null'\nhost = '-oProxyCommand=ls'",
        "[[device]]\nname = 'null'\nemulate = 'perhaps'", "[[device]]\nname = 'null'\nemulate = true",
        "[[device]]\nname = 'null'\nthreads = nan", "[[device]]\nname = 'null'\nthreads = 0", "[[device]]\nname = 'null'\nthreads = -3",
        "[[device]]\nname = 'null'\nthreads = 99999999999999999999", "[[device]]\nname = 'null'\nthreads = 1.5",
        f"[[device]]\nname = '{'x' * 5000}'", "device = " + "[" * 5000, "device = [[1]]", "device = ['null']",
        "[[device]]\nname = 'null'\n" * 2000,
    ],
)  # fmt: skip
def test_no_fleet_file_can_do_harm(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    monkeypatch.setattr("harness.plugins.load", lambda modules: None)

    def command() -> None:
        fleet.bench(read_fleet(tmp_path / "fleet.toml"), COMMON, tmp_path / "run", [])

    assert ends_well(command, capsys, text[:80]) in (USAGE, DEVICE_FAILED)
    assert not (tmp_path / "run").exists()


def test_a_member_that_ends_strangely_is_a_fault_of_the_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (-9, 1 << 20, 255):
        monkeypatch.setattr(fleet, "run_member", lambda folder, name, running, code=code: (code, ""))
        assert fleet.resume(folder).exit_code == INTERNAL


def test_whoever_stops_a_fleet_stops_its_members_and_begins_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal reaches the fleet's own process alone: it waited for its members, hours perhaps, and began the next one."""
    waiting = "import sys, time; print('here', file=sys.stderr, flush=True); time.sleep(60)"
    monkeypatch.setattr(fleet, "member_command", lambda folder: [sys.executable, "-c", waiting])
    codes = {}

    def interrupted(place: Path, name: str, running: fleet.Running) -> tuple[int, str]:
        codes[name], last = run(place, name, lambda line: os.kill(os.getpid(), signal.SIGINT), running)
        return codes[name], last

    monkeypatch.setattr(fleet, "run_member", interrupted)
    begin = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            fleet.resume(folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert codes == {DEVICES[0]: -signal.SIGTERM} and time.monotonic() - begin < 30
    kept = fleet.FleetRecord.model_validate_json((folder / FLEET).read_text())
    assert [entry.exit_code for entry in kept.members] == [-signal.SIGTERM, None]


def test_two_processes_do_not_go_on_with_one_fleet(folder: Path) -> None:
    """Each wrote what it knew of the members: of one that the other ran, that it had no run."""
    with RunFolder(folder), pytest.raises(UsageError, match="another harness is writing to"):
        fleet.resume(folder)


def test_what_a_member_says_is_passed_on_however_long_its_lines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member's words come from its device in part: control characters, half characters and a line without an end among them."""
    talker = "import sys; sys.stderr.buffer.write(b'\\x1b[31m\\xff a\\n' + b'x' * (8 << 20)); sys.exit(4)"
    monkeypatch.setattr(fleet, "member_command", lambda folder: [sys.executable, "-c", talker])
    said: list[str] = []
    assert fleet.run_member(tmp_path, "null", said.append)[0] == DEVICE_FAILED
    assert said and all(line.isprintable() and len(line) < 10_000 for line in said)
