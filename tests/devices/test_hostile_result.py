"""A worker whose result is doctored, one field or file at a time: the run ends with the device's exit code and can be gone on with."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import harness
from safetensors.torch import save_file

from devices.files import sha256_file
from devices.job import FormatError
from devices.process import Exit
from devices.result import RESULT, Result
from devices.transports.local import Local
from harness.models.zoo import ARCHITECTURES
from harness.records import RunRecord, Step

DEEP = "[" * 500 + "]" * 500
WRONG: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1e300,
    "text",
    "x" * 10**6,
    [],
    [[]],
    {},
    {"a": 1},
    "__deep__",
    "__nan__",
    "__infinity__",
    "\x1b[2J",
]
PLACES = {"__deep__": DEEP, "__nan__": "NaN", "__infinity__": "1e999"}  # what json.dumps cannot write


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that has come to the device, and `genuine`, the result that an honest one sends."""
    folder = tmp_path_factory.mktemp("hostile")
    torch.manual_seed(0)
    save_file(ARCHITECTURES["resnet8"](4).state_dict(), folder / "net.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(16) % 4)
    get = Local.get

    def stop(self: Local, there: str, to: Path) -> None:
        shutil.copytree(Path(there), folder / "genuine")
        (to / "result.json").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Local, "get", stop)
        words = ["--model", str(folder / "net.safetensors"), "--arch", "resnet8", "--data", str(folder / "data.npz"), "--eps", "8/255"]
        how = ["--attack", "fgsm", "--samples", "4", "--device", "null", "--flavour", "onnx-fp32", "--out", str(folder / "run")]
        assert harness("bench", *words, *how) == 4
    assert Local.get is get
    shutil.copytree(folder / "run", folder / "begun")
    return folder


@pytest.fixture
def send(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], int]:
    """Go on with the run on a device that sends the honest result, changed by a function; the exit code."""

    def through(change: Callable[[Path], None]) -> int:
        shutil.rmtree(run / "run")
        shutil.copytree(run / "begun", run / "run")

        def get(self: Local, there: str, to: Path) -> None:
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(run / "genuine", to)
            change(to)

        monkeypatch.setattr(Local, "run", lambda *_: Exit(0, False, ()))
        monkeypatch.setattr(Local, "get", get)
        return harness("bench", "--resume", str(run / "run"))

    return through


def test_an_honest_result_is_taken(send: Callable[..., int], run: Path) -> None:
    assert send(lambda folder: None) in (0, 1, 3)
    assert RunRecord.load(run / "run").status == Step.FINISHED


def refused(run: Path, said: str) -> None:
    """The error is one line without control characters, and the run is as it was."""
    assert RunRecord.load(run / "run").status == Step.ATTACKED
    last = said.strip().splitlines()[-1]
    assert last.startswith("harness: null sent a result that cannot be used: ")
    assert last.isprintable()
    assert len(last) < 2000


def paths(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield where
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*where, key))


def put(value: Any, where: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with another part at one place."""
    if not where:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[where[0]] = put(copy[where[0]], where[1:], new)
    return copy


def written(value: Any) -> str:
    text = json.dumps(value)
    for mark, place in PLACES.items():
        text = text.replace(f'"{mark}"', place)
    return text


def test_no_field_of_the_result_can_do_harm(run: Path, tmp_path: Path) -> None:
    """Each field in turn, with each wrong value: `Result.load` refuses it as damaged, or what it takes is of the right form everywhere."""
    genuine = json.loads((run / "genuine/result.json").read_text())
    shutil.copytree(run / "genuine", tmp_path / RESULT)
    refusals = 0
    for where in paths(genuine):
        for wrong in WRONG:
            (tmp_path / RESULT / "result.json").write_text(written(put(genuine, where, wrong)))
            try:
                taken = Result.load(tmp_path)
            except FormatError:
                refusals += 1
            else:
                assert json.dumps([taken.options, taken.environment, taken.before, taken.peaks, taken.error], allow_nan=False).isprintable()
    assert refusals > 500


FIELDS: dict[str, Any] = {
    "status": "built",
    "outputs": {},
    "timings": {},
    "checks": None,
    "simulated": False,
    "job_sha256": "0" * 64,
    "options": [1],
    "load_ns": -1,
    "error": "x",
    "environment": {"steal_share": "all"},
    "before": {"clocks_hz": {"cpu0": ["a", 1]}},
    "peaks": {"bytes_per_s": 1.0},
    "telemetry": {},
    "loadgen": {"scenario": "Offline", "valid": True, "figures": {}, "logs": []},
    "optimised_graph": {"path": "..", "sha256": ""},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_wrong_ends_the_run_as_the_devices_fault(
    field: str, send: Callable[..., int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(folder: Path) -> None:
        raw = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps({**raw, field: FIELDS[field]}))

    assert send(change) == 4
    refused(run, capsys.readouterr().err)


def forge(folder: Path, name: str, content: bytes) -> None:
    """Another file, whose hash is right."""
    (folder / name).write_bytes(content)

    def mended(value: Any) -> Any:
        if isinstance(value, dict):
            own = {"sha256": sha256_file(folder / name)} if value.get("path") == name else {}
            return {key: mended(inner) for key, inner in value.items()} | own
        return value

    raw = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(mended(raw)))


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape: str, data: bytes = b"", dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


LOGITS: dict[str, bytes] = {
    "empty": b"",
    "no header": b"\x93NUMPY",
    "text": b"not an array",
    "float64": npy(np.zeros((16, 4))),
    "integers": npy(np.zeros((16, 4), np.int64)),
    "big-endian": npy(np.zeros((16, 4), ">f4")),
    "complex": npy(np.zeros((16, 4), np.complex64)),
    "one dimension": npy(np.zeros(16, np.float32)),
    "three dimensions": npy(np.zeros((16, 4, 1), np.float32)),
    "a scalar": npy(np.float32(0)),
    "too few images": npy(np.zeros((15, 4), np.float32)),
    "no images": npy(np.zeros((0, 4), np.float32)),
    "no classes": npy(np.zeros((16, 0), np.float32)),
    "other classes": npy(np.zeros((16, 5), np.float32)),
    "NaN": npy(np.full((16, 4), np.nan, np.float32)),
    "infinity": npy(np.full((16, 4), np.inf, np.float32)),
    "promises more": header("(16, 4000000000)"),
    "beyond numbers": header(f"({10**30}, 0)"),
    "negative": header("(-16, -4)", bytes(256)),
    "deep header": header("(" * 200),
    "objects": header("(16, 4)", bytes(512), "|O"),
}


@pytest.mark.parametrize("case", LOGITS)
def test_logits_of_another_form_end_the_run_as_the_devices_fault(
    case: str, send: Callable[..., int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(lambda folder: forge(folder, "outputs/clean.npy", LOGITS[case])) == 4
    refused(run, capsys.readouterr().err)


def npz(**arrays: Any) -> Callable[[bytes], bytes]:
    """The timings with some arrays changed; None leaves one out."""

    def change(genuine: bytes) -> bytes:
        with np.load(io.BytesIO(genuine)) as whole:
            kept = {**{name: whole[name] for name in whole.files}, **arrays}
        file = io.BytesIO()
        np.savez(file, **{name: values for name, values in kept.items() if values is not None})
        return file.getvalue()

    return change


def bomb(_: bytes) -> bytes:
    """2 GiB of zeros in 2 MiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("latency_ns.npy", "w", force_zip64=True) as member:
        member.write(header(f"({2**28},)", dtype="<i8"))
        for _block in range(2**7):
            member.write(bytes(1 << 24))
    return file.getvalue()


CALLS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda genuine: genuine[: len(genuine) // 2],
    "bomb": bomb,
    "no calls": npz(latency_ns=np.empty(0, np.int64), start_ns=np.empty(0, np.int64)),
    "no array": npz(latency_ns=None),
    "negative": npz(latency_ns=np.full(9, -1), start_ns=np.empty(0, np.int64)),
    "zero": npz(latency_ns=np.zeros(9, np.int64), start_ns=np.empty(0, np.int64)),
    "NaN": npz(latency_ns=np.full(9, np.nan), start_ns=np.empty(0, np.int64)),
    "infinity": npz(latency_ns=np.full(9, np.inf), start_ns=np.empty(0, np.int64)),
    "too long": npz(latency_ns=np.full(9, 2**62), start_ns=np.empty(0, np.int64)),
    "a table": npz(latency_ns=np.ones((3, 3), np.int64), start_ns=np.empty(0, np.int64)),
    "starts of another length": npz(start_ns=np.arange(3)),
    "starts in disorder": npz(latency_ns=np.full(3, 5), start_ns=np.array([9, 5, 0])),
    "starts before time": npz(latency_ns=np.full(3, 5), start_ns=np.full(3, -(2**63))),
    "first is a list": npz(first_ns=np.arange(3)),
    "first is NaN": npz(first_ns=np.float64("nan")),
    "unknown part": npz(sleep_part_ns=np.ones(3, np.int64)),
    "part of another length": npz(compute_part_ns=np.ones(1, np.int64)),
}


@pytest.mark.parametrize("case", CALLS)
def test_timings_that_cannot_be_end_the_run_as_the_devices_fault(
    case: str, send: Callable[..., int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(folder: Path) -> None:
        name = "timings/b1.npz"
        forge(folder, name, CALLS[case]((folder / name).read_bytes()))

    assert send(change) == 4
    refused(run, capsys.readouterr().err)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", DEEP.encode() * 200, b'{"schema": NaN}', b"[" * (1 << 25), b"null"])
def test_a_result_that_is_no_text_of_ours_ends_the_run_as_the_devices_fault(
    text: bytes, send: Callable[..., int], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert send(lambda folder: (folder / "result.json").write_bytes(text)) == 4
    refused(run, capsys.readouterr().err)
