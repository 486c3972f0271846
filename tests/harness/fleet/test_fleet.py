"""Several devices in one run: the sets are made once, every device answers, the report shows them side by side."""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import sshd
from commandline import harness
from nearest import make_nearest
from typer.testing import CliRunner

from devices.host.errors import DeviceError
from harness.cli import app
from harness.ending import DEVICE_FAILED
from harness.errors import UsageError
from harness.fleet import run as fleet
from harness.fleet.members import Member, read_fleet
from harness.records import RunRecord, Step
from harness.run import RunFolder
from harness.settings import Settings
from reports.compare import render_comparison

pytestmark = pytest.mark.slow(60)

PROFILES = Path(__file__).parents[3] / "devices/host/profiles"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second fake device in the user's configuration: the same as `null`, under another name."""
    home = tmp_path_factory.mktemp("config")
    own = home / "edge-harness" / "devices"
    own.mkdir(parents=True)
    text = (PROFILES / "null.toml").read_text()
    (own / "null-two.toml").write_text(text.replace('name = "null"', 'name = "null-two"'))
    return home


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small network on two engines, attacked by every source."""
    model, data = make_nearest(tmp_path_factory.mktemp("nearest"))
    return Settings(model=str(model), data=str(data), eps="4/255", attacks=("fgsm",), samples=12, batches=(1,))


@pytest.fixture(autouse=True)
def user(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))


@dataclass
class Finished:
    """A fleet that the command line ran: its folder, its record, and what was printed on the two streams."""

    folder: Path
    record: fleet.FleetRecord
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(config: Path, common: Settings, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    asked, folder = tmp_path_factory.mktemp("asked"), tmp_path_factory.mktemp("fleet") / "run"
    (asked / "fleet.toml").write_text('[[device]]\nname = "null"\n[[device]]\nname = "null-two"\nthreads = 1\n')
    (asked / "q.toml").write_text('artefact = { at_most = "1 GB" }\nlatency = { percentile = "p50", batch = 1, at_most = "1 s" }\n')
    subject = ("--model", common.model, "--data", common.data, "--eps", "4/255", "--attack", "fgsm", "--samples", "12", "--batch", "1")
    what = ("--requirements", str(asked / "q.toml"), "--out", str(folder), "--json")
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        patch.setenv("XDG_CONFIG_HOME", str(config))
        code = harness("bench", "--fleet", str(asked / "fleet.toml"), *subject, *what)
    return Finished(
        folder, fleet.FleetRecord.model_validate_json((folder / "fleet.json").read_text()), code, out.getvalue(), err.getvalue()
    )


def test_every_device_has_a_finished_run_of_its_own(finished: Finished) -> None:
    folder, record = finished.folder, finished.record
    runs = {entry.folder: RunRecord.load(folder / entry.folder) for entry in record.members}
    assert {name: run.device.name for name, run in runs.items()} == {"null": "null", "null-two": "null-two"}
    assert all(run.status == Step.FINISHED for run in runs.values())
    assert [entry.exit_code for entry in record.members] == [3, 3]  # a standard network has nothing to lose: inconclusive
    assert record.exit_code == 3


def test_every_member_is_held_against_the_requirements(finished: Finished) -> None:
    folder, record = finished.folder, finished.record
    for entry in record.members:
        rows = RunRecord.load(folder / entry.folder).requirements
        assert [(row.kind, row.outcome) for row in rows] == [("artefact", "PASS"), ("latency", "NOT MEASURED")]


def test_requirements_that_a_member_cannot_answer_are_refused_before_any_work(common: Settings, tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text('throughput = { batch = 7, at_least = "1 images/s" }')
    with pytest.raises(UsageError, match=r"line 1: batch 7 is not timed in this run \(1\)"):
        fleet.bench([Member(name="null")], common, tmp_path / "run", [], tmp_path / "q.toml")
    assert not (tmp_path / "run").exists()


def test_the_sets_are_made_once(finished: Finished) -> None:
    folder = finished.folder
    first, second = (RunRecord.load(folder / name) for name in ("null", "null-two"))
    assert [a.set_sha256 for a in first.attacks] == [a.set_sha256 for a in second.attacks]
    shared = [attack for attack in first.attacks if attack.source != "S4"]  # which asks the device's own engines
    assert {attack.source for attack in shared} == {"S0", "S1", "S3", "gate"}
    for attack in shared:
        assert (folder / "null" / attack.file).samefile(folder / "null-two" / attack.file)


def test_the_report_compares_the_devices(finished: Finished) -> None:
    text = (finished.folder / "report.md").read_text()
    assert "| null | " in text and "| null-two | " in text
    rows = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| null – null-two")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [flavour, "the same", "128", "0", "192", "0", "0"] for flavour in ("onnx-fp32", "ort-int8")
    ]  # sixteen sets of twelve images on the same machine
    assert "<html" in (finished.folder / "report.html").read_text()


def test_a_device_that_cannot_be_reached_stops_no_other_and_is_tried_again_alone(
    config: Path, common: Settings, board: sshd.Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = Path(shutil.copytree(config / "edge-harness" / "devices", tmp_path / "config" / "edge-harness" / "devices"))
    remote = f'extends = "null"\nname = "null-lost"\ntransport = "ssh"\nhost = "{sshd.HOST}"\npython = "{board.python}"\n'
    (own / "null-lost.toml").write_text(remote)
    few = common.model_copy(update={"flavours": ("onnx-fp32",), "sources": ("S1",)})
    lost_first = [Member(name="null-lost"), Member(name="null")]

    with pytest.raises(DeviceError, match=r"none of the devices can be used: null-lost: board cannot be reached"):
        fleet.bench(lost_first[:1], few, tmp_path / "run", [])
    assert not (tmp_path / "run").exists()

    record = fleet.bench(lost_first, few, tmp_path / "run", [])
    assert record.exit_code == DEVICE_FAILED
    assert [entry.exit_code for entry in record.members] == [DEVICE_FAILED, 3]
    assert "null-lost | not reached, the others go on: board cannot be reached" in capsys.readouterr().err
    kept = json.loads((tmp_path / "run" / "fleet.json").read_text())["members"]
    assert "Connection refused" in kept[0]["fault"] and kept[1]["fault"] is None
    report = (tmp_path / "run" / "report.md").read_text()
    assert "Devices without a finished run" in report and "Connection refused" in report and "| null | " in report

    finished = (tmp_path / "run" / "null" / "record.json").stat().st_mtime_ns
    board.start()
    again = fleet.resume(tmp_path / "run")
    assert [(entry.exit_code, entry.fault) for entry in again.members] == [(3, None), (3, None)]
    assert (tmp_path / "run" / "null" / "record.json").stat().st_mtime_ns == finished, "it was made again"
    far, near = (RunRecord.load(tmp_path / "run" / name) for name in ("null-lost", "null"))
    assert [run.engines[0].status for run in (far, near)] == ["ok", "ok"]
    assert far.attacks == near.attacks
    assert (tmp_path / "run" / "null-lost" / far.attacks[0].file).samefile(tmp_path / "run" / "null" / near.attacks[0].file)
    report = (tmp_path / "run" / "report.md").read_text()
    assert "Devices without" not in report and f" | onnx-fp32 | the same | {near.data.n_clean} | 0 | " in report
    assert sshd.processes(board.cache) == []


def test_the_gravest_exit_code_is_the_fleets() -> None:
    def ended(*codes: int | None) -> int:
        entries = [fleet.Entry(member=Member(name="null"), folder="null", exit_code=code) for code in codes]
        return fleet.FleetRecord(created="", command=[], settings={}, members=entries).exit_code

    assert [ended(0, 0), ended(0, 3), ended(3, 4, 0), ended(4, 1), ended(0, None)] == [0, 3, 4, 1, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got nothing"),
        ("device = 3", r"expected tables \[\[device\]\]"),
        ("[[device]]\nhost = 'x'", "name: Field required"),
        ("[[device]]\nname = 'null'\nspeed = 3", "speed: Extra inputs"),
        ("[[device]", "is not TOML"),
        ("[[board]]\nname = 'null'", "got board"),
    ],
)
def test_a_fleet_file_that_is_wrong(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_fleet(tmp_path / "fleet.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "null", "--device", "null"], "named twice"),
        (["--device", "null", "--device", "nul"], "unknown device 'nul'"),
        (["--device", "null", "--device", "host", "--host", "me@board"], "is for one device"),
        (["--fleet", "none.toml"], "cannot read --fleet none.toml"),
        (["--fleet", "none.toml", "--device", "null"], "give one of the two"),
    ],
)
def test_wrong_usage_is_found_before_any_work(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments, "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, UsageError) and words in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_the_command_line_prints_the_comparison_and_its_exit_code(finished: Finished) -> None:
    assert finished.code == 3, finished.err
    assert [member["exit_code"] for member in json.loads(finished.out)["members"]] == [3, 3]
    assert "null-two | " in finished.err


def test_unlike_runs_are_named_and_their_answers_not_compared(finished: Finished, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished.folder / "null", other)
    record = RunRecord.load(other)
    record.model_copy(update={"seed": 1}).save(other)
    render_comparison({"one": finished.folder / "null", "other": other}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "The runs differ in the seed (one: 0; other: 1)." in text
    assert "Not compared" in text


def stored(folder: Path, **members: str) -> Path:
    """`fleet.json` with these members: device -> run folder."""
    entries = [fleet.Entry(member=Member(name=name.replace("_", "-")), folder=place) for name, place in members.items()]
    folder.mkdir(exist_ok=True)
    fleet.FleetRecord(created="", command=[], settings={}, members=entries).save(folder)
    return folder


@pytest.mark.parametrize("place", ["../elsewhere", "{out}", "a/b", "..", "", "null-two", ".null"])
def test_a_stored_fleet_says_nowhere_else_to_write(place: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "run", null=place.format(out=tmp_path / "elsewhere"))
    ran = CliRunner().invoke(app, ["bench", "--resume", str(folder)])
    assert isinstance(ran.exception, UsageError) and "expected 'null', one plain name" in str(ran.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and [path.name for path in folder.iterdir()] == ["fleet.json"]


def test_a_device_s_name_is_a_plain_name_too(tmp_path: Path) -> None:
    entry = fleet.Entry(member=Member(name="../null"), folder="../null")
    folder = stored(tmp_path / "run")
    record = fleet.FleetRecord(created="", command=[], settings={}, members=[entry])
    record.save(folder)
    with pytest.raises(UsageError, match="one plain name"):
        fleet.resume(folder)


def test_a_stored_fleet_has_each_device_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its members are none"):
        fleet.resume(stored(tmp_path / "empty"))
    record = fleet.FleetRecord(
        created="", command=[], settings={}, members=[fleet.Entry(member=Member(name="null"), folder="null") for _ in range(2)]
    )
    record.save(stored(tmp_path / "twice"))
    with pytest.raises(UsageError, match="its members are null, null"):
        fleet.resume(tmp_path / "twice")


@pytest.mark.parametrize("inside", ["null", "record.tmp", "null/adversarial"])
def test_no_link_in_a_resumed_folder_leads_out_of_it(inside: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "run", null="null")
    (tmp_path / "elsewhere").mkdir()
    (folder / inside).parent.mkdir(exist_ok=True)
    (folder / inside).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link that leads out of"):
        fleet.resume(folder)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_resumed_run_writes_through_no_link_either(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "run" / "record.tmp").symlink_to(tmp_path / "mine.txt")
    ran = CliRunner().invoke(app, ["bench", "--resume", str(tmp_path / "run")])
    assert isinstance(ran.exception, UsageError) and "is not a run folder" in str(ran.exception), "told to remove a link of no run"
    with pytest.raises(UsageError, match="is a link that leads out of"), RunFolder(tmp_path / "run"):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"
