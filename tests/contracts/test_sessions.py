"""One table over every transport: what a session with an engine promises, whatever happens to the engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import sshd
from onnx import helper
from quick_engines import CLASSES, Linear, Said, left, make_linear, processes, save_linear, silent, some_images, wanted

from devices.host.profile import load_profile
from devices.host.session import EngineError, EngineId, EngineSession, Limits
from devices.host.station import Station
from devices.host.transports import TRANSPORTS
from devices.worker.files import sha256_file
from devices.worker.reader import ROOT

pytestmark = pytest.mark.slow(55)

A, B, OTHER = EngineId("a", 0), EngineId("a", 1), EngineId("b")
NAN, REFUSED = EngineId("nan"), EngineId("refused")
# Under an emulator a session takes long to open, and what follows is the same code as on this machine.
unemulated = pytest.mark.parametrize("device", ["local", "ssh"], indirect=True)
by_ssh = pytest.mark.parametrize("device", ["ssh"], indirect=True)
QEMU = any(map(shutil.which, ("qemu-x86_64-static", "qemu-x86_64")))


@dataclass
class Place:
    """A device with engines on it, and where its processes are seen."""

    station: Station
    linear: Linear
    other: Linear
    seen: Path
    board: sshd.Board | None
    sensors: Path

    @contextmanager
    def open(self, engine: EngineId = A, limits: Limits | None = None) -> Iterator[EngineSession]:
        session = self.station.session(engine, silent)
        if limits is not None:
            session.limits = limits
        with session:
            yield session

    def workers(self) -> list[int]:
        """Processes of the engines, without the shells that wait for them."""
        return [pid for pid in processes(self.seen) if b"\0../worker.pyz\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def at(self, engine: EngineId) -> Path:
        """The folder that an engine runs in."""
        return Path(self.station._there) / str(engine)


@pytest.fixture(scope="module", params=sorted(TRANSPORTS))
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Held open for the whole table, as a run does."""
    if request.param == "emulated" and not QEMU:
        pytest.skip("qemu-x86_64-static is not installed")
    if request.param == "ssh" and sshd.MISSING:
        pytest.skip(sshd.MISSING)
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        sensors = with_sensors(folder / "recorded")
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(ROOT, str(sensors))
        board = stack.enter_context(running_board(folder / "board", {ROOT: str(sensors)})) if request.param == "ssh" else None
        profile = board.profile() if board else load_profile({"local": "host", "emulated": "x86-sse4"}[request.param])
        linear, other = make_linear(folder, 1), make_linear(folder, 2)
        # log(w . x + b), where it is below 0 for the brightest image only
        tail = (helper.make_node("Log", ["gemm"], ["logits"]),)
        save_linear(folder / "nan.onnx", np.full((48, CLASSES), -1.0), np.full(CLASSES, 47.9), tail=tail)
        (folder / "bad.onnx").write_text("not a model")
        models = {A: linear.path, B: linear.path, OTHER: other.path, NAN: folder / "nan.onnx", REFUSED: folder / "bad.onnx"}
        (folder / "engines").mkdir()
        station = stack.enter_context(Station(profile, folder / "engines", seed=0))
        station.send({engine: wanted(path, timed=engine == B) for engine, path in models.items()}, silent)
        yield Place(station, linear, other, board.cache if board else folder / "engines", board, sensors)


def with_sensors(root: Path) -> Path:
    """This machine as it is, with a temperature and a clock of its own."""
    for path, text in {"thermal/thermal_zone0/type": "cpu-thermal", "thermal/thermal_zone0/temp": "51234"}.items():
        (root / "sys/class" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/class" / path).write_text(text)
    (root / "sys/devices/system/cpu/cpu0/cpufreq").mkdir(parents=True)
    (root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").write_text("1500000")
    (root / "proc").symlink_to("/proc")
    return root


@contextmanager
def running_board(folder: Path, variables: dict[str, str]) -> Iterator[sshd.Board]:
    board = sshd.Board(folder, variables=variables)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sshd.CONFIG, str(board.config))
        board.start()
        try:
            yield board
        finally:
            board.stop()


@pytest.fixture(autouse=True)
def nothing_is_left(device: Place) -> Iterator[None]:
    yield
    assert left(device.seen) == []


def test_answers_are_right_however_many_images_are_asked_about_and_each_is_counted(device: Place) -> None:
    images = some_images(70)
    with device.open() as session:
        assert (session.id, session.shape, session.hello.classes, session.hello.output) == (A, (4, 4, 3), CLASSES, "logits")
        assert session.hello.name == "onnxruntime"
        assert session.loaded.load_ns and session.loaded.first_ns and not session.loaded.synthetic
        assert session.loaded.options["intra_op_num_threads"] == 1
        assert session.loaded.environment["threads"] == 1
        logits = session.logits(images)
        assert (logits.dtype, logits.shape) == (np.float32, (70, CLASSES))
        np.testing.assert_allclose(logits, device.linear.logits(images), atol=1e-5)
        assert session.batch < 70
        assert (session.cost.requests, session.cost.images) == (-(-70 // session.batch), 70)
        before = session.cost.seconds
        assert before > 0
        assert session.logits(images[:0]).shape == (0, CLASSES)
        assert np.array_equal(session.logits(images[3:4]), logits[3:4])
        assert session.cost.images == 71 and session.cost.seconds > before


@unemulated
def test_other_images_are_the_callers_mistake(device: Place) -> None:
    with device.open() as session:
        for images in (np.zeros((1, 3, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)):
            with pytest.raises(ValueError, match=r"expected uint8 \(n, 4, 4, 3\)"):
                session.logits(images)


def test_calls_are_timed_as_often_as_asked_and_their_answers_are_right(device: Place) -> None:
    pool = some_images(7)
    with device.open() as session:
        session.set_pool(pool)
        for batch, repeats, same in ((1, 1, False), (3, 25, False), (3, 4, True), (9, 2, False)):
            calls = session.measure(batch, repeats, same=same)
            assert (calls.ns.dtype, calls.ns.shape, calls.start_ns.shape, calls.parts) == (np.int64, (repeats,), (repeats,), {})
            assert calls.ns.min() > 0
            assert np.all(np.diff(calls.start_ns) >= calls.ns[:-1])
        for batch in (3, 9):
            said, files = session.call({"op": "timed", "batch": batch}, Said)
            rows = np.concatenate([pool[np.arange(first, first + batch) % len(pool)] for first in said.offsets])
            answers = np.frombuffer(files["logits"], "<f4").reshape(-1, CLASSES)
            np.testing.assert_allclose(answers, device.linear.logits(rows), atol=1e-5)
        assert len(said.offsets) == 2
        assert session.call({"op": "timed", "batch": 4}, Said)[1] == {"logits": b""}
        assert session.cost.requests == 0, "a timed call is no query"


def test_what_the_sensors_say_now_is_told_between_requests_and_nothing_of_it_is_the_workstations(device: Place) -> None:
    images, celsius = some_images(5), device.sensors / "sys/class/thermal/thermal_zone0/temp"
    with device.open() as session:
        before = session.logits(images)
        said = session.now()
        if device.station.profile.emulated:
            assert said == {}, "the sensors are those of the workstation"
        else:
            assert said == {"temperature_c:cpu": 51.234, "frequency_hz:cpu0": 1.5e9}
            celsius.write_text("61000")
            assert session.now()["temperature_c:cpu"] == 61.0, "anew at each request"
            celsius.unlink()
            assert session.now() == {"frequency_hz:cpu0": 1.5e9}, "a sensor that is gone is left out"
            celsius.write_text("51234")
        assert np.array_equal(session.logits(images), before)
        assert session.cost.requests == 2 * -(-5 // session.batch), "to look at the sensors is no query"
    with pytest.raises(ValueError, match="closed"):
        session.now()


def test_memory_evidence_and_rest_are_told(device: Place, tmp_path: Path) -> None:
    with device.open(B) as session:
        session.set_pool(some_images(7))
        memory = session.call({"op": "memory"}, Said)[0]
        assert memory.baseline_bytes > 1 << 20 and 1 << 20 < memory.peak_bytes < 1 << 31
        assert memory.device_bytes is None
        evidence, files = session.call({"op": "evidence"}, Said)
        assert evidence.equal is True
        (tmp_path / "graph.onnx").write_bytes(files["optimised.onnx"])
        assert {node.op_type for node in onnx.load(tmp_path / "graph.onnx").graph.node} == {"Flatten", "Gemm"}
        rest, files = session.call({"op": "rest"}, Said)
        emulated = device.station.profile.emulated
        assert (rest.telemetry is None) == emulated, "nothing is timed under an emulator"
        if not emulated:
            assert rest.telemetry["period_ms"] == 100
            assert len(files["telemetry"]) > 100
            assert 0 <= rest.machine["others_share_before"] <= 1
        assert rest.after.keys() == session.loaded.before.keys()


def test_engines_are_open_side_by_side_two_builds_of_one_flavour_too(device: Place) -> None:
    images = some_images(5)
    with device.open(A) as first, device.open(B) as second, device.open(OTHER) as other:
        assert len(device.workers()) >= 3
        for _ in range(2):
            np.testing.assert_allclose(first.logits(images), device.linear.logits(images), atol=1e-5)
            np.testing.assert_allclose(other.logits(images), device.other.logits(images), atol=1e-5)
            np.testing.assert_allclose(second.logits(images), device.linear.logits(images), atol=1e-5)
        assert (str(first.id), str(second.id)) == ("a", "a#2")
        assert first.plan_sha256 == second.plan_sha256 != other.plan_sha256
        assert first.loaded.environment["machine"] == second.loaded.environment["machine"]


@unemulated
def test_a_closed_session_answers_nothing_more(device: Place) -> None:
    with device.open() as session:
        assert processes(device.seen)
    assert left(device.seen, 0.0) == [] or device.board is not None
    with pytest.raises(ValueError, match="is closed"):
        session.logits(some_images(1))
    session.close()
    with pytest.raises(ValueError, match="was never opened"):
        _ = device.station.session(A, silent).shape


def test_an_engine_that_is_killed_while_it_works_is_crashed(device: Place) -> None:
    with device.open() as session:
        (pid,) = device.workers()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"killed from outside \(SIGKILL\)") as caught:
            session.logits(some_images(2))
        assert caught.value.status == "crashed"
        with pytest.raises(EngineError, match="SIGKILL"):
            session.measure(1, 1)


@unemulated
def test_native_code_that_aborts_is_crashed(device: Place) -> None:
    with device.open() as session:
        os.kill(device.workers()[0], signal.SIGABRT)
        with pytest.raises(EngineError, match="died of SIGABRT in native code"):
            session.logits(some_images(2))


@unemulated
def test_a_model_that_the_runtime_does_not_take_is_refused_at_once(device: Place) -> None:
    with pytest.raises(EngineError, match="will not load the model") as caught, device.open(REFUSED):
        pass
    assert caught.value.status == "refused"
    assert "\n" not in str(caught.value)


@unemulated
def test_an_engine_that_stops_answering_is_hung_within_its_limit(device: Place) -> None:
    with device.open(limits=Limits(answer_s=1.0)) as session:
        (pid,) = device.workers()
        os.kill(pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(EngineError, match="said nothing for 1 s and was killed") as caught:
            session.logits(some_images(2))
        assert caught.value.status == "hung"
        assert time.monotonic() - start < 5
        try:
            os.kill(pid, signal.SIGCONT)  # over there it ends with its connection, once it may run at all
        except ProcessLookupError:
            assert device.board is None


@unemulated
def test_logits_that_are_not_finite_are_their_own_status(device: Place) -> None:
    images = some_images(3)
    with device.open(NAN) as session:
        assert np.isfinite(session.logits(images)).all()
        images[2] = 255
        with pytest.raises(EngineError, match=r"1 of 3 images .* the first in place 2") as caught:
            session.logits(images)
        assert caught.value.status == "nan"


def test_an_interrupt_in_the_middle_of_an_answer_leaves_nothing(device: Place) -> None:
    images = some_images(20_000)

    def interrupt() -> None:
        while session.cost.requests < 3:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), device.open() as session:
            thread = threading.Thread(target=interrupt)
            thread.start()
            while True:
                session.logits(images)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()


@by_ssh
def test_a_dropped_connection_costs_one_request(device: Place) -> None:
    board = device.board
    assert board is not None
    images = some_images(70)
    with device.open(A) as session, device.open(OTHER) as other:
        session.set_pool(images)
        whole = session.logits(images)
        board.drop()
        assert np.array_equal(session.logits(images), whole)
        np.testing.assert_allclose(other.logits(images), device.other.logits(images), atol=1e-5)
        assert session.cost.requests == 2 * 3
        board.drop()
        session.measure(3, 2)
        said, files = session.call({"op": "timed", "batch": 3}, Said)
        answers = np.frombuffer(files["logits"], "<f4").reshape(-1, CLASSES)
        assert len(answers) == 6
        np.testing.assert_allclose(answers, np.concatenate([whole[first : first + 3] for first in said.offsets]), atol=1e-6)
        assert board.lock.read_text() != "{}", "the device is still ours"


@by_ssh
def test_another_plan_after_the_connection_dropped_ends_the_session(device: Place) -> None:
    board = device.board
    assert board is not None
    with device.open(OTHER) as session:
        session.logits(some_images(1))
        with exchanged(device.at(OTHER), device.linear.path):
            board.drop()
            with pytest.raises(EngineError, match=r"another plan runs \(.*must not be mixed") as caught:
                session.logits(some_images(1))
        assert caught.value.status == "crashed"


@by_ssh
def test_a_model_that_was_damaged_meanwhile_is_refused(device: Place) -> None:
    board = device.board
    assert board is not None
    with device.open(OTHER) as session:
        with exchanged(device.at(OTHER), device.linear.path, told=False):
            board.drop()
            with pytest.raises(EngineError, match=r"model\.onnx changed on the way") as caught:
                session.logits(some_images(1))
        assert caught.value.status == "refused"


@contextmanager
def exchanged(folder: Path, model: Path, *, told: bool = True) -> Iterator[None]:
    """Another model in an engine's folder; `told`: its description says so too."""
    names = ("model.onnx", "engine.json")
    before = {name: (folder / name).read_bytes() for name in names}
    spec = json.loads(before["engine.json"])
    spec["artefact"]["sha256"] = sha256_file(model) if told else spec["artefact"]["sha256"]
    try:
        for name, raw in {"model.onnx": model.read_bytes(), "engine.json": json.dumps(spec).encode()}.items():
            (folder / name).unlink()
            (folder / name).write_bytes(raw)
        yield
    finally:
        for name, raw in before.items():
            (folder / name).unlink()
            (folder / name).write_bytes(raw)


def test_builds_are_counted_as_seeds_are_the_second_is_number_two() -> None:
    assert [str(EngineId("trt-int8-sparse", build)) for build in range(3)] == ["trt-int8-sparse", "trt-int8-sparse#2", "trt-int8-sparse#3"]
