"""The user's own engine: the two of the documentation, and every way in which one can misbehave. Each ends within seconds, as a result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from quick_engines import left, processes, silent

from devices.host.session import EngineError, EngineSession, Limits
from devices.host.station import own_engine
from harness.compute.openmp import sleep_while_waiting

pytestmark = pytest.mark.slow(20)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LIMITS = Limits(load_s=5.0, answer_s=1.0)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)

# An engine that does everything right, in four parts; each test replaces some. 2x2x1 images, 3 classes.
HEAD = "import json, os, struct, sys, time\nout, inp = sys.stdout.buffer, sys.stdin.buffer\n"
SAY = "def say(m):\n    out.write(json.dumps(m).encode() + b'\\n'); out.flush()\n"
HELLO = "say({'protocol': 1, 'name': 'mine', 'version': '1', 'shape': [2, 2, 1], 'classes': 3, 'output': 'logits'})"
ANSWER = "say({'n': n}); out.write(struct.pack(f'<{3 * n}f', *range(3 * n))); out.flush()"
MEASURE = "say({'ns': [5] * r['repeats']})"
TIMED = HELLO.replace("'output'", "'measure': True, 'output'")
LABELS = HELLO.replace("'logits'", "'labels'")
SMALL = np.zeros((5, 2, 2, 1), np.uint8)


def program(hello: str = HELLO, answer: str = ANSWER, measure: str = MEASURE, end: str = "") -> str:
    return (
        f"{HEAD}{SAY}{hello}\nwhile (line := inp.readline()) and (r := json.loads(line))['op'] != 'close':\n"
        f"    if r['op'] == 'measure':\n        {measure}\n        continue\n"
        f"    n = r['n']; inp.read(4 * n)\n    {answer}\n{end}\n"
    )


@pytest.fixture
def engine_of(tmp_path: Path) -> Iterator[Callable[..., EngineSession]]:
    """A session with a small program; none of its processes may be left."""

    def build(code: str) -> EngineSession:
        path = tmp_path / "engine.py"
        path.write_text(code)
        return own_engine("mine", [sys.executable, str(path)], silent, limits=LIMITS)

    yield build
    assert left(tmp_path, 3.0) == []


def test_it_gets_the_environment_that_this_program_was_given(
    engine_of: Callable[..., EngineSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How PyTorch's threads wait here is not to be in the latency of an engine made of PyTorch; what the user chose is."""
    monkeypatch.setenv("OMP_SCHEDULE", "static")
    for chosen in (None, "active"):
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if chosen is not None:
            monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
        sleep_while_waiting()
        assert os.environ["OMP_WAIT_POLICY"] == (chosen or "passive")
        expected = ["static", chosen, None]
        names = "['OMP_SCHEDULE', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT']"
        with engine_of(program(hello=f"assert [os.environ.get(name) for name in {names}] == {expected}\n{HELLO}")) as session:
            assert session.logits(SMALL).shape == (5, 3)


# Those that the documentation shows


def test_the_engine_in_python_answers_right() -> None:
    weight = np.random.default_rng(0).normal(size=(32 * 32 * 3, 10)).astype("<f4")
    with own_engine("linear", [sys.executable, str(EXAMPLES / "engine.py")], silent) as session:
        assert (session.hello.name, session.hello.version, session.shape, session.hello.classes) == ("linear", "1.0", (32, 32, 3), 10)
        expected = IMAGES.reshape(40, -1) / 255 @ weight.astype(np.float64)
        np.testing.assert_allclose(session.logits(IMAGES), expected, atol=1e-2)
        assert (session.cost.requests, session.cost.images) == (2, 40)


def test_the_engine_in_c_answers_right(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-o", str(tmp_path / "engine"), str(EXAMPLES / "engine.c")], check=True)
    with own_engine("c", [str(tmp_path / "engine")], silent) as session:
        expected = IMAGES.reshape(40, -1)[:, :3070].reshape(40, 10, 307).mean(axis=2, dtype=np.float64) / 255
        np.testing.assert_allclose(session.logits(IMAGES), expected, atol=1e-6)
        session.set_pool(IMAGES)
        calls = session.measure(3, 4)
        assert calls.ns.shape == (4,) and calls.ns.min() > 0
        with pytest.raises(EngineError, match="only ask and close are understood") as caught:
            session.call({"op": "memory"}, type(session.hello))
        assert caught.value.status == "refused"
    assert processes(tmp_path) == []


# One that does everything right


def test_a_good_engine_is_asked_and_timed_around_its_requests(engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program()) as session:
        assert np.array_equal(session.logits(SMALL), np.arange(15, dtype=np.float32).reshape(5, 3))
        before = session.cost.images
        assert session.measure(2, 6).ns.shape == (6,), "without a pool too"
        session.set_pool(SMALL)
        assert session.measure(7, 3).ns.min() > 0
        assert session.cost.images == before + 2 * 6 + 7 * 3, "each is a request that costs"
        assert len(session.plan_sha256) == 64


def test_what_is_answered_while_it_is_timed_is_kept(engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program()) as session:
        session.set_pool(SMALL)
        session.measure(2, 20)
        session.measure(1, 3, same=True)
        assert {batch: sorted(kept) for batch, kept in session.timed.items()} == {2: list(range(16)), 1: [0]}
        assert np.array_equal(session.timed[2][3], np.arange(6, dtype=np.float32).reshape(2, 3))


def test_a_clock_of_its_own_is_believed(engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program(TIMED)) as session:
        calls = session.measure(2, 6)
        assert (calls.ns.tolist(), calls.start_ns.size, calls.parts) == ([5] * 6, 0, {})
        assert session.cost.images == 0


def test_labels_become_rows_with_a_one(engine_of: Callable[..., EngineSession]) -> None:
    labels = "say({'n': n}); out.write(struct.pack(f'<{n}i', *[k % 3 for k in range(n)])); out.flush()"
    with engine_of(program(LABELS, labels)) as session:
        assert np.array_equal(session.logits(SMALL), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]])


def test_a_million_labels_fit_into_memory(engine_of: Callable[..., EngineSession]) -> None:
    labels = "say({'n': n}); out.write(struct.pack(f'<{n}i', *[999_999] * n)); out.flush()"
    with engine_of(program(LABELS.replace("'classes': 3", "'classes': 1_000_000"), labels)) as session:
        rows = session.logits(SMALL[:2])
        assert rows.shape == (2, 1_000_000) and rows.sum() == 2 and rows[:, -1].all()


def test_progress_and_unknown_keys_are_no_fault(engine_of: Callable[..., EngineSession]) -> None:
    steps: list[tuple[str, int, int]] = []
    hello = "[say({'step': 'load\\x1b[2J', 'done': i, 'total': 3, 'more': []}) for i in range(3)]; " + HELLO.replace("}", ", 'colour': 1}")
    session = engine_of(program(hello))
    session.progress = lambda *step: steps.append(step)
    with session:
        assert session.logits(SMALL).shape == (5, 3)
    assert steps == [("load?[2J", i, 3) for i in range(3)], "without control characters"


@pytest.mark.parametrize("loaded", [True, "yesterday", {"plan_sha256": "mine", "synthetic": True}])
def test_a_key_that_the_protocol_does_not_know_means_nothing(loaded: object, engine_of: Callable[..., EngineSession]) -> None:
    """Though the harness's own worker has it: it would be sent requests that no other engine was promised to understand."""
    with engine_of(program(said(loaded=loaded))) as session:
        session.set_pool(SMALL)
        assert (session.now(), session.loaded.plan_sha256, session.loaded.synthetic) == ({}, "", False)
        assert session.logits(SMALL).shape == (5, 3)


def test_much_text_on_the_side_blocks_nothing(engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program(answer="sys.stderr.write('x' * 3_000_000); " + ANSWER)) as session:
        assert session.logits(SMALL).shape == (5, 3)


# Those that do not load


def said(**changes: object) -> str:
    hello = {"protocol": 1, "name": "mine", "version": "1", "shape": [2, 2, 1], "classes": 3, "output": "logits", **changes}
    return f"say({ {key: value for key, value in hello.items() if value is not None}!r})"


UNLOADED = {
    "no JSON": ("print('hello', flush=True)", "crashed", "b'hello'; expected one line of JSON"),
    "a list": ("say([1])", "crashed", "expected one line of JSON"),
    "not UTF-8": ("out.write(b'\\xff\\xfe{}\\n'); out.flush()", "crashed", "expected one line of JSON"),
    "deep JSON": ("out.write(b'[' * 100_000 + b']' * 100_000 + b'\\n'); out.flush()", "crashed", "expected one line of JSON"),
    "deep JSON in an object": ("out.write(b'{\"a\":' * 900 + b'1' + b'}' * 900 + b'\\n'); out.flush()", "crashed", "it answered with"),
    "protocol 2": (said(protocol=2), "crashed", "protocol"),
    "no protocol": (said(protocol=None), "crashed", "protocol is wrong: field required"),
    "no name": (said(name=None), "crashed", "name"),
    "no shape": (said(shape=None), "crashed", "shape"),
    "a shape of 2 numbers": (said(shape=[2, 2]), "crashed", "shape"),
    "a shape of text": (said(shape=["2", "2", "1"]), "crashed", "shape"),
    "a shape of nothing": (said(shape=[2, 0, 1]), "crashed", "shape"),
    "a negative shape": (said(shape=[-2, -2, 1]), "crashed", "shape"),
    "1 class": (said(classes=1), "crashed", "classes"),
    "huge classes": (said(classes=10**9), "crashed", "classes"),
    "classes as text": (said(classes="3"), "crashed", "classes"),
    "an unknown output": (said(output="scores"), "crashed", "output"),
    "a long name": (said(name="x" * 10_000), "crashed", "name"),
    "NaN as a number of classes": (said(classes=float("nan")), "crashed", "classes"),
    "half a character": (said(name="\ud800"), "crashed", "expected one line of JSON"),
    "silence": ("time.sleep(600)", "hung", "said nothing for 5 s"),
    "a line without an end": ("while True: out.write(b'x' * 65536)", "crashed|hung", "without an end|said nothing"),
    "lines without an end": ("while True: out.write(b'x\\n' * 9999)", "crashed", "expected one line of JSON"),
    "progress without an end": ("while True: say({'step': 'a', 'done': 1, 'total': 2})", "crashed", "100,000 lines of progress"),
    "wrong progress": ("say({'step': 3})", "crashed", "step"),
    "ends at once": ("sys.exit(3)", "crashed", "ended with exit code 3"),
    "ends well at once": ("sys.exit()", "crashed", "ended with exit code 0"),
    "dies": ("os.abort()", "crashed", "died of SIGABRT"),
    "last words": ("print('no\\tlicence\\x1b[1m', file=sys.stderr); sys.exit(1)", "crashed", r"Its last words: no licence\?\[1m$"),
    "closes its output and lives on": ("os.close(1); time.sleep(600)", "hung", "neither answered nor ended"),
    "refuses": ("say({'status': 'refused', 'error': 'too\\nold'})", "refused", r"^too\?old$"),
    "an unknown status": ("say({'status': 'ok', 'error': ''})", "crashed", "status"),
    "a status without a reason": ("say({'status': 'crashed'})", "crashed", "error"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLOADED)
def test_one_that_does_not_load_is_a_result(name: str, engine_of: Callable[..., EngineSession]) -> None:
    hello, status, message = UNLOADED[name]
    start = time.monotonic()
    with pytest.raises(EngineError, match=message) as caught, engine_of(program(hello)):
        pass
    assert caught.value.status in status.split("|")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("command", ["no-such-engine", "/no/such/engine", "/etc/passwd", "/tmp"])
def test_a_command_that_cannot_be_run_is_named(command: str) -> None:
    with pytest.raises(EngineError, match=f"cannot run {command}: ") as caught, own_engine("none", [command], silent):
        pass
    assert caught.value.status == "refused"


# Those that answer wrong


def rows(values: str) -> str:
    return f"say({{'n': n}}); out.write(struct.pack(f'<{{3 * n}}f', *({values} for k in range(3 * n)))); out.flush()"


CHILD = "import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[0]]); "


def packed(number: str, each: int = 3) -> str:
    return f"say({{'n': n}}); out.write(struct.pack({number}) * {each} * n); out.flush()"


def labels(value: int) -> str:
    return f"say({{'n': n}}); out.write(struct.pack(f'<{{n}}i', *[{value}] * n)); out.flush()"


WRONG = {
    "too short": (HELLO, "say({'n': n}); out.write(bytes(12 * n - 1)); out.flush()", "hung", r"59 of 60 bytes came within 1 s"),
    "too long": (HELLO, "say({'n': n}); out.write(bytes(12 * n + 1)); out.flush()", "crashed", "expected one line|nobody asked for"),
    "too many rows": (HELLO, ANSWER.replace("'n': n", "'n': n + 1"), "crashed", "6 rows for 5 images"),
    "a negative number of rows": (HELLO, ANSWER.replace("'n': n", "'n': -1"), "crashed", "-1 rows for 5 images"),
    "rows as text": (HELLO, ANSWER.replace("'n': n", "'n': '5'"), "crashed", "n is wrong"),
    "rows as truth": (HELLO, ANSWER.replace("'n': n", "'n': True"), "crashed", "n is wrong"),
    "no rows": (HELLO, "say({})", "crashed", "n is wrong: field required"),
    "NaN": (HELLO, rows("float('nan') if k == 4 else 0"), "nan", "1 of 5 images .* place 1"),
    "64-bit numbers": (HELLO, packed("'<2I', 0x7FC00000, 0x3FB99999"), "crashed", "behind the 3 float32 numbers of an image.*64-bit"),
    "big endian": (HELLO, packed("'>I', 0x3F80FFFF"), "crashed", r"at most 1\.01 read as big endian; expected little endian"),
    "64-bit labels": (LABELS, packed("'<q', 1", 1), "crashed", "or its int32 label: neither 64-bit numbers nor text"),
    "text behind": (HELLO, ANSWER + "; print('gpu 45 C', flush=True); time.sleep(0.1)", "crashed", "b'gpu 45 C'"),
    "dies, and a child holds its output": (HELLO, CHILD + "os._exit(3)", "crashed", "exit code 3; something that it started went on"),
    "a child within the rows": (HELLO, "say({'n': n}); " + CHILD + "os._exit(4)", "crashed", "exit code 4; something that it started"),
    "infinity": (HELLO, rows("float('-inf')"), "nan", "5 of 5 images .*overflow in low precision"),
    "the logarithm of zero": (HELLO, rows("float('-inf') if k % 3 else 1"), "nan", "5 of 5 images .*logarithm of a probability of zero"),
    "silence": (HELLO, "time.sleep(600)", "hung", "said nothing for 1 s and was killed"),
    "silence before the rows": (HELLO, "say({'n': n}); time.sleep(600)", "hung", "0 of 60 bytes came within 1 s"),
    "one byte at a time": (HELLO, "while True: out.write(b'x'); out.flush(); time.sleep(0.05)", "hung", "said nothing"),
    "garbage": (HELLO, "print('oops', flush=True)", "crashed", "b'oops'; expected one line of JSON"),
    "not UTF-8": (HELLO, "out.write(bytes(range(255, 127, -1)) + b'\\n'); out.flush()", "crashed", "expected one line of JSON"),
    "a huge number": (HELLO, "out.write(b'{\"n\": ' + b'9' * 10_000 + b'}\\n'); out.flush()", "crashed", "it answered with"),
    "ends": (HELLO, "sys.exit(4)", "crashed", "exit code 4"),
    "ends within the rows": (HELLO, "say({'n': n}); out.write(bytes(7)); out.flush(); os._exit(0)", "crashed", "exit code 0"),
    "dies": (HELLO, "os.kill(os.getpid(), 11)", "crashed", "died of SIGSEGV"),
    "is killed": (HELLO, "os.kill(os.getpid(), 9)", "crashed", "SIGKILL"),
    "closes its output and lives on": (HELLO, "os.close(1); time.sleep(600)", "hung", "neither answered nor ended"),
    "output without an end": (HELLO, "while True: out.write(b'x' * 65536)", "crashed|hung", "without an end|said nothing"),
    "progress without an end": (HELLO, "while True: say({'step': 'a', 'done': 1, 'total': 2})", "crashed", "lines of progress"),
    "a label out of range": (LABELS, labels(3), "crashed", "label 3; expected 0 to 2"),
    "a negative label": (LABELS, labels(-1), "crashed", "label -1; expected 0 to 2"),
    "gives up": (HELLO, "say({'status': 'crashed', 'error': 'no memory'})", "crashed", "^no memory$"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_that_answers_wrong_is_a_result_and_is_asked_nothing_more(name: str, engine_of: Callable[..., EngineSession]) -> None:
    hello, answer, status, message = WRONG[name]
    start = time.monotonic()
    with engine_of(program(hello, answer)) as session:
        with pytest.raises(EngineError) as caught:
            for _ in range(2):  # what comes behind an answer shows at the next one
                session.logits(SMALL)
        assert caught.match(message)
        assert caught.value.status in status.split("|")
        assert "\n" not in str(caught.value)
        with pytest.raises(EngineError) as again:
            session.measure(1, 1)
        assert again.value is caught.value
    assert time.monotonic() - start < 20


def test_output_that_nobody_asked_for_is_seen(engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program(answer=f"{ANSWER}; time.sleep(0.2); say({{'n': 5}}); out.write(bytes(60)); out.flush()")) as session:
        session.logits(SMALL)
        time.sleep(1.0)
        with pytest.raises(EngineError, match="it answered with something that nobody asked for") as caught:
            session.logits(SMALL)
        assert caught.value.status == "crashed"


def test_one_that_does_not_read_is_hung(engine_of: Callable[..., EngineSession]) -> None:
    """A request larger than the pipe."""
    hello = HELLO.replace("[2, 2, 1]", "[512, 512, 3]") + "\ntime.sleep(600)"
    with engine_of(program(hello)) as session, pytest.raises(EngineError, match="nothing could be sent for 1 s") as caught:
        session.logits(np.zeros((2, 512, 512, 3), np.uint8))
    assert caught.value.status == "hung"


# Those whose clock is wrong

CLOCKS = {
    "too few": "say({'ns': [5] * (r['repeats'] - 1)})",
    "too many": "say({'ns': [5] * (r['repeats'] + 1)})",
    "none": "say({'ns': []})",
    "zero": "say({'ns': [5] * (r['repeats'] - 1) + [0]})",
    "negative": "say({'ns': [-5] * r['repeats']})",
    "huge": "say({'ns': [2**70] * r['repeats']})",
    "longer than a century": "say({'ns': [2**62] * r['repeats']})",
    "text": "say({'ns': ['5'] * r['repeats']})",
    "fractions": "say({'ns': [5.5] * r['repeats']})",
    "whole fractions": "say({'ns': [5.0] * r['repeats']})",
    "truths": "say({'ns': [True] * r['repeats']})",
    "one number": "say({'ns': 5})",
    "nothing": "say({})",
    "too few starts": "say({'ns': [5] * r['repeats'], 'start_ns': [1]})",
    "negative starts": "say({'ns': [5] * r['repeats'], 'start_ns': [-1] * r['repeats']})",
    "too few parts": "say({'ns': [5] * r['repeats'], 'parts': {'compute': [1]}})",
    "negative parts": "say({'ns': [5] * r['repeats'], 'parts': {'compute': [-1] * r['repeats']}})",
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_clock_that_cannot_be_right_is_a_result(name: str, engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program(TIMED, measure=CLOCKS[name])) as session:
        with pytest.raises(EngineError, match="it answered with") as caught:
            session.measure(2, 3)
        assert caught.value.status == "crashed"


# Files that would leave the run's folder

FILES = ["../x", "a/../../x", "/etc/passwd", "a//b", "a/", "", ".ssh", "a\nb", "a\0b", "~/x", "a\\b", "é"]


SIZES: list[object] = [-1, 1 << 40, "many", True, 1.0]
OFFERS = [*({name: 1} for name in FILES), *({"a": size} for size in SIZES), [], 3, None, {f"f{i}": 0 for i in range(2000)}]


@pytest.mark.parametrize("files", OFFERS, ids=lambda files: ascii(files)[:20])
def test_files_with_names_or_sizes_that_cannot_be_are_refused(files: object, engine_of: Callable[..., EngineSession]) -> None:
    code = program(TIMED, answer=ANSWER).replace("r['op'] == 'measure'", "r['op'] == 'evidence'")
    with engine_of(code.replace(MEASURE, f"say({{'blobs': {files!r}}})")) as session:
        with pytest.raises(EngineError, match="files of these names and sizes") as caught:
            session.call({"op": "evidence"}, type(session.loaded))
        assert caught.value.status == "crashed"


def test_good_files_are_taken(engine_of: Callable[..., EngineSession]) -> None:
    give = "say({'blobs': {'optimised.onnx': 3, 'mlperf_log_summary.txt': 0, 'a-b+c': 1}}); out.write(b'abcd'); out.flush()"
    with engine_of(program(TIMED, measure=give)) as session:
        files = session.call({"op": "measure"}, type(session.loaded))[1]
        assert files == {"optimised.onnx": b"abc", "mlperf_log_summary.txt": b"", "a-b+c": b"d"}


# Its end


@pytest.mark.parametrize(
    "end",
    ["time.sleep(600)", "while True: out.write(b'x' * 65536)", CHILD],
    ids=["sleeps on", "talks on", "leaves a child"],
)
def test_one_that_ignores_its_end_is_killed_with_all_that_it_started(end: str, engine_of: Callable[..., EngineSession]) -> None:
    with engine_of(program(end=end)) as session:
        session.logits(SMALL)
        start = time.monotonic()
    assert time.monotonic() - start < 10


def test_a_good_engine_is_let_end_by_itself(engine_of: Callable[..., EngineSession], tmp_path: Path) -> None:
    end = f"time.sleep(0.3); open({str(tmp_path / 'ended')!r}, 'w').write('well')"
    with engine_of(program(end=end)) as session:
        session.logits(SMALL)
    assert (tmp_path / "ended").read_text() == "well"
