"""A real run whose worker's answers are then changed, field by field, to the extremes of their kind: refused, or measured, judged and
reported to the end, with a record that is valid and holds no number that JSON lacks.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_once import figures_drawn_once  # noqa: F401 - a fixture

import harness.spine as spine
import harness.stages.measure as stage
from devices.host.channel import Channel
from devices.host.messages import Hello
from devices.host.rounds import Timing
from devices.host.session import Calls, EngineError, EngineSession
from devices.worker.plain import cleaned, read_json
from devices.worker.spec import FormatError
from harness.answers import Images, Logits
from harness.data.dataset import to_tensor
from harness.records import RunRecord
from harness.settings import Settings
from harness.stages import measured as store
from harness.stages.device import outcome
from harness.stages.evidence import Evidence
from harness.stages.judge import judge
from reports.render import render

pytestmark = [pytest.mark.slow(50), pytest.mark.usefixtures("figures_drawn_once")]

SETTINGS = Settings(
    model="resnet8",
    device="host",
    flavours=("onnx-fp32",),
    attacks=("fgsm",),
    sources=("S1",),
    eps="1/255",
    samples=16,
    batches=(1,),
    threads=1,
)
ASKED = ("memory", "rest", "evidence", "timed", "peaks")
EXTREMES: dict[str, tuple[type, tuple[Any, ...]]] = {
    "numbers": (int, (0, -1, 1 << 62, (1 << 64) - 1)),
    "fractions": (float, (5e-324, -1.0, 1e308)),
    "texts": (str, ("", "\ud800", "\x1b[31m\r\n\u202e<script>alert(1)</script>|a|\n# b")),
}  # fmt: skip
Message = dict[str, Any]
Place = tuple[str | int, ...]


@dataclasses.dataclass
class Run:
    """What a real run was made of: the worker's messages and files by operation, what it was judged from, and answers known by now."""

    record: RunRecord
    evidence: Evidence
    folder: Path
    messages: dict[str, Message]
    files: dict[str, dict[str, bytes]]
    logits: dict[bytes, Logits] = dataclasses.field(default_factory=dict)


class Doctored:
    """Stands in a session's place, and gives answers that were changed."""

    def __init__(self, run: Run, messages: dict[str, Message]) -> None:
        self._run, self._messages = run, {op: json.dumps(message) for op, message in messages.items()}
        self.batch, self.limits = 16, EngineSession.limits

    def _read(self, op: str, kind: Any) -> Any:
        try:
            message = cleaned(read_json(self._messages[op]))
        except ValueError as error:
            raise EngineError("crashed", str(error)) from error
        return EngineSession._checked(self, message, kind)  # type: ignore[arg-type]

    def _wrong(self, what: str) -> EngineError:
        return EngineError("crashed", what)

    @property
    def hello(self) -> Hello:
        """See `EngineSession`."""
        hello: Hello = self._read("hello", Hello)
        return hello

    @property
    def loaded(self) -> Any:
        """See `EngineSession`."""
        return self.hello.loaded

    @property
    def plan_sha256(self) -> str:
        """See `EngineSession`."""
        return self.hello.loaded.plan_sha256

    def call(self, request: Message, kind: Any, limit_s: float | None = None) -> tuple[Any, dict[str, bytes]]:
        """See `EngineSession`."""
        return self._read(request["op"], kind), self._run.files.get(request["op"], {})

    def logits(self, images: Images) -> Logits:
        """Of the twin."""
        known, key = self._run.logits, images.tobytes()
        if key not in known:
            known[key] = self._run.evidence.subject.twin.module(to_tensor(images)).detach().numpy()
        return known[key]

    def measure(self, batch: int, repeats: int, *, same: bool = False) -> Calls:
        """Calls that all take a microsecond."""
        return Calls(np.full(repeats, 1000), np.arange(repeats), {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, seen, messages, files = tmp_path_factory.mktemp("hostile") / "run", [], {}, {}
    true_line, true_call = Channel.line, EngineSession.call

    def line(channel: Channel, limit_s: float) -> bytes | None:
        if (found := true_line(channel, limit_s)) is not None and b'"protocol"' in found:
            messages.setdefault("hello", json.loads(found))
        return found

    def call(session: EngineSession, request: Message, kind: Any, limit_s: float | None = None) -> Any:
        answer, blobs = true_call(session, request, kind, limit_s)
        messages.setdefault(request["op"], answer.model_dump(mode="json"))
        files.setdefault(request["op"], blobs)
        return answer, blobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "line", line)
        patch.setattr(EngineSession, "call", call)
        patch.setattr(spine, "judge", lambda record, evidence, place: seen.append((record, evidence)) or judge(record, evidence, place))
        spine.bench(SETTINGS, folder, ["harness", "bench"])
    return Run(*seen[0], folder, {op: messages[op] for op in ("hello", *ASKED)}, files)


def places(value: Any, kind: type, here: Place = ()) -> Iterator[Place]:
    """Where a message holds a value of that kind."""
    if type(value) is kind:
        yield here
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ():
        yield from places(inner, kind, (*here, key))


def put(message: Message, place: Place, value: Any) -> Message:
    changed = deepcopy(message)
    at: Any = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return changed


def examined(run: Run, messages: dict[str, Message], timings: dict[int, Timing], place: Path) -> store.Kept | None:
    """What is kept of such answers; None where they are refused."""
    [measured] = run.evidence.measured
    try:
        kept = stage._examined(measured.engine, Doctored(run, messages), timings, run.evidence.subject, SETTINGS)  # type: ignore[arg-type]
        store.check(kept, place, measured.engine)
    except (EngineError, FormatError) as error:
        assert str(error).isprintable()
        return None
    return kept


def carried_out(run: Run, kept: store.Kept, folder: Path) -> None:
    """Judged and reported to the end."""
    [measured] = run.evidence.measured
    shutil.copytree(run.folder, folder, dirs_exist_ok=True)
    place = folder / store.MEASURED / measured.engine.name
    store.save(kept, place)
    loaded = store.load(measured.engine, place)
    assert outcome(loaded, run.evidence.subject.profile, [loaded])
    record = judge(run.record, dataclasses.replace(run.evidence, measured=[loaded]), folder)
    text = record.model_dump_json(by_alias=True)
    json.loads(text, parse_constant=pytest.fail)
    assert RunRecord.model_validate_json(text) == record
    (folder / "record.json").write_text(text)
    render(folder, ("html", "md"))
    assert "<script>alert" not in (folder / "report.html").read_text()
    for report in ("report.html", "report.md"):
        assert not set("\x1b\u202e\r") & set((folder / report).read_text())


@pytest.mark.parametrize(("kind", "extreme"), [(kind, value) for kind, (_, values) in EXTREMES.items() for value in values])
def test_extreme_answers_are_refused_or_lead_to_a_valid_record(run: Run, kind: str, extreme: Any, tmp_path: Path) -> None:
    """Each field is changed alone, to see whether it is refused; then all that are not are changed together."""
    timings, together = run.evidence.measured[0].timings, dict(run.messages)
    for op, message in run.messages.items():
        for place in places(message, EXTREMES[kind][0]):
            if examined(run, run.messages | {op: put(message, place, extreme)}, timings, tmp_path / "checked") is not None:
                together[op] = put(together[op], place, extreme)
    kept = examined(run, together, timings, tmp_path / "checked")
    if kept is not None:
        carried_out(run, kept, tmp_path / "run")


@pytest.mark.parametrize("change", ["none", "empty", "half", "odd", "twice", "zeros"])
@pytest.mark.parametrize("op", ["rest", "evidence", "timed"])
def test_damaged_files_are_refused_or_lead_to_a_valid_record(run: Run, op: str, change: str, tmp_path: Path) -> None:
    damage: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda raw: b"", "half": lambda raw: raw[: len(raw) // 2], "odd": lambda raw: raw[:-3], "twice": lambda raw: 2 * raw,
        "zeros": lambda raw: bytes(len(raw)),
    }  # fmt: skip
    files = {} if change == "none" else {name: damage[change](raw) for name, raw in run.files[op].items()}
    doctored = dataclasses.replace(run, files=run.files | {op: files})
    kept = examined(doctored, run.messages, run.evidence.measured[0].timings, tmp_path / "checked")
    if kept is not None:
        carried_out(run, kept, tmp_path / "run")


@pytest.mark.parametrize("value", [0.0, 1e18, -1e18, float("nan"), float("inf")])
def test_extreme_samples_are_refused_or_lead_to_a_valid_record(run: Run, value: float, tmp_path: Path) -> None:
    """Of every sensor, and of none but their clock."""
    with np.load(io.BytesIO(run.files["rest"]["telemetry"])) as stored:
        sampled = dict(stored)
    assert any(name.endswith("/time_ns") for name in sampled)
    for number, clock in enumerate((False, True) if np.isfinite(value) else (False,)):  # a clock has integers
        same = {
            name: np.full_like(values, value if values.dtype == np.float64 else np.clip(np.nan_to_num(value), -1e18, 1e18))
            for name, values in sampled.items()
            if name.endswith("/time_ns") == clock
        }
        raw = io.BytesIO()
        np.savez(raw, **(sampled | same))
        doctored = dataclasses.replace(run, files=run.files | {"rest": {"telemetry": raw.getvalue()}})
        kept = examined(doctored, run.messages, run.evidence.measured[0].timings, tmp_path / "checked")
        if kept is not None:
            carried_out(run, kept, tmp_path / f"run{number}")


@pytest.mark.parametrize("ns", [1, (1 << 62) - 1])
def test_extreme_timings_lead_to_a_valid_record(run: Run, ns: int, tmp_path: Path) -> None:
    timing = run.evidence.measured[0].timings[1]
    same = np.full(len(timing.latency_ns), ns)
    for number, changed in enumerate(({"latency_ns": same, "warmup_ns": same[:5]}, {"start_ns": same, "parts_ns": {"a\x1b|b": same}})):
        kept = examined(run, run.messages, {1: dataclasses.replace(timing, **changed)}, tmp_path / "checked")
        if kept is not None:
            carried_out(run, kept, tmp_path / f"run{number}")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"\xff", b"[" * 5000, b'{"trtexec": NaN}', b'{"trtexec": {"parts_ns": {"compute": []}}}',
        b'{"trtexec": {"parts_ns": {"copy": [1]}}}', b'{"trtexec": {"parts_ns": {"compute": [-1]}}}',
        b'{"trtexec": {"parts_ns": {"compute": [1.5]}}}', b'{"trtexec": {"batch": 0, "parts_ns": {"compute": [1]}}}',
    ],
)  # fmt: skip
def test_engine_information_that_cannot_be_used_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError, match="the engine information is damaged"):
        store.information(raw)


def test_engine_information_may_lack_a_second_opinion() -> None:
    assert store.information(b'{"inspector": {}, "trtexec": {"absent": "not on the PATH"}}').trtexec.parts_ns == {}
    told = store.information(b'{"trtexec": {"batch": 8, "command": ["x"], "parts_ns": {"compute": [5, 6]}}}').trtexec
    assert (told.batch, told.parts_ns) == (8, {"compute": [5, 6]})
