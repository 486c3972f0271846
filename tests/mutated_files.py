"""Damaged files of every format, each read as a command reads it: in a process of its own, watched for time, memory and what it raises.

`python tests/mutated_files.py FORMAT FOLDER COUNT` prints a line for every file that was neither read nor refused in one line.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import ZipFile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

if TYPE_CHECKING:
    from torch import nn  # most formats need no torch, which takes longer to import than their files to read

sys.path.insert(0, str(Path(__file__).parent / "reports"))

MOST_BYTES, MOST_S = 1_000_000_000, 10
REFUSED_ALLOCATION = 4_000_000_000  # more than this is not given, so that a fault does not take the machine with it
HEAD = 1500  # where a binary file says what it holds: half of the damage goes there
WORDS = (
    b"NaN", b"1e999", b"-1", b"9" * 400, b"null", b"[" * 3000, b"{" * 3000, b"\x1b[31m", b"\x00", b'"', b"\xff\xfe", b"true", b"''", b"0",
    b"1000000000000000000", b"-5", b"\n", b"\r\n", "\u202e".encode(), b"[]", b"{}",
)  # fmt: skip
NUMBERS = (
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\xff" * 7 + b"\x7f",
    bytes(8),
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"\x80" * 9 + b"\x01",
)


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies with one to four places changed."""
    draw = random.Random(seed)
    for _ in range(count):
        if content[:2] == b"PK" and draw.random() < 0.7:
            yield _damaged_inside(content, draw)
            continue
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            _damage(damaged, draw)
        yield bytes(damaged)


def _damaged_inside(content: bytes, draw: random.Random) -> bytes:
    """An archive with one member damaged and its checksum right again: the check of the archive does not see it."""
    with ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    chosen = draw.choice(sorted(members))
    for _ in range(draw.randint(1, 4)):
        _damage(members[chosen], draw)
    made = io.BytesIO()
    with ZipFile(made, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, bytes(member))
    return made.getvalue()


def _damage(content: bytearray, draw: random.Random) -> None:
    place = draw.randrange(min(len(content), HEAD) if draw.random() < 0.5 else len(content)) if content else 0
    length = draw.choice((1, 1, 2, 4, 8, 50))
    kind = draw.randrange(8)
    if kind == 0 and content:
        content[place] ^= 1 << draw.randrange(8)
    elif kind == 1 and content:
        content[place] = draw.choice((0, 1, 127, 128, 255))
    elif kind == 2:
        number = draw.choice(NUMBERS)
        content[place : place + len(number)] = number
    elif kind == 3:
        del content[place:]
    elif kind == 4:
        del content[place : place + length]
    elif kind == 5:
        content[place:place] = content[place : place + length] * draw.choice((1, 2, 100))
    elif kind == 6:
        content[place : place + draw.choice((0, 1, 3))] = draw.choice(WORDS)
    else:
        content[place : place + length] = draw.randbytes(length)


class Kind(NamedTuple):
    """A format: what makes a sound file in an empty folder (its path is given back), and what reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def _network() -> nn.Module:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def _make_npz(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8), np.arange(12) % 3
    np.savez(folder / "data.npz", images=images, labels=labels, class_names=np.array(["a", "b", "c"]))
    return folder / "data.npz"


def _make_picture(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photo.{suffix}")
        return folder / f"photo.{suffix}"

    return make


def _make_onnx(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Reshape", ["g", "size"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(draw.normal(size=(4, 3, 3, 3)).astype(np.float32), "w"),
            numpy_helper.from_array(draw.normal(size=(4, 3)).astype(np.float32), "v"),
            numpy_helper.from_array(np.array([0, -1]), "size"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    return folder / "model.onnx"


def _make_pt2(folder: Path) -> Path:
    import torch

    free = ({0: torch.export.Dim("n")},)
    torch.export.save(torch.export.export(_network().eval(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=free), folder / "model.pt2")
    return folder / "model.pt2"


def _make_safetensors(folder: Path) -> Path:
    from safetensors.torch import save_file

    from harness.models.architectures import build

    save_file(build("mobilenetv2-cifar-x0.25", 3).state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def _make_card(folder: Path) -> Path:
    from export.artefact import sha256_file

    weights = _make_safetensors(folder)
    (folder / "model.json").write_text(
        '{"arch": "mobilenetv2-cifar-x0.25", "classes": 3, "input_shape": [3, 32, 32], "normalize": "imagenet", "eps": "8/255", "sha256": "'
        + sha256_file(weights)
        + '"}'
    )
    return folder / "model.json"


def _copy(source: str, name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy(Path(__file__).parents[1] / source, folder / name))


def _make_profile(folder: Path) -> Path:
    place = folder / "edge-harness" / "devices"
    place.mkdir(parents=True)
    return _copy("devices/host/profiles/raspberry-pi-4.toml", "raspberry-pi-4.toml")(place)


def _make_sweep(folder: Path) -> Path:
    (folder / "sweep.toml").write_text(SWEEP)
    return folder / "sweep.toml"


SWEEP = """
name = "small"
models = ["resnet8"]
seeds = [0, 1]

[[methods]]
name = "hydra"
rates = [0.9, 0.95]
patterns = ["irregular", "2:4"]

[compress]
data = "cifar10-sample"

[bench]
samples = 16
eps = "2/255"
flavours = ["onnx-fp32"]
"""


def _make_run(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from synthetic import make_run

        make_run(folder / "run", rounds=3)
        return folder / "run" / name

    return make


def _read_data(path: Path) -> object:
    from harness.data.load import load_data

    return load_data(str(path), input_shape=None, classes=None, seed=0)


def _read_picture(path: Path) -> object:
    from harness.data.picture import read_image

    return read_image(path, (3, 16, 16))


def _read_model(path: Path) -> object:
    from harness.models.load import load_twin

    return load_twin(str(path), image_size=None)


def _read_lint(path: Path) -> object:
    from export.lint import lint

    return lint(path, "tensorrt")


def _read_engine(path: Path) -> object:
    from harness.models.engine_file import check_engine_file

    check_engine_file(path)
    return None


def _read_weights(path: Path) -> object:
    from harness.models.load import load_twin

    return load_twin(str(path), arch="mobilenetv2-cifar-x0.25")


def _read_card(path: Path) -> object:
    return _read_model(path.with_suffix(".safetensors"))


def _read_requirements(path: Path) -> object:
    from harness.requirements.file import read_requirements

    return read_requirements(path)


def _read_profile(path: Path) -> object:
    """The broken profile alone may be refused: the others must be there."""
    from devices.host.profile import device_aliases, device_names, load_profile

    os.environ["XDG_CONFIG_HOME"] = str(path.parents[2])
    device_aliases()
    load_profile("null")
    assert "null" in device_names()
    return load_profile("raspberry-pi-4")


def _read_sweep(path: Path) -> object:
    from harness.sweep.spec import load_spec

    return load_spec(path)


def _read_recipe(path: Path) -> object:
    from harness.training.recipe import load_recipe

    return load_recipe(path)


def _read_run(path: Path) -> object:
    from reports.compare import to_text
    from reports.render import render

    run = next(parent for parent in path.parents if parent.name == "run")
    to_text({"run": run})
    return render(run, ["md"])


KINDS = {
    "npz": Kind(_make_npz, _read_data),
    "png": Kind(_make_picture("png"), _read_picture),
    "jpg": Kind(_make_picture("jpg"), _read_picture),
    "tiff": Kind(_make_picture("tiff"), _read_picture),
    "onnx": Kind(_make_onnx, _read_model),
    "onnx-lint": Kind(_make_onnx, _read_lint),
    "onnx-engine": Kind(_make_onnx, _read_engine),
    "pt2": Kind(_make_pt2, _read_model),
    "safetensors": Kind(_make_safetensors, _read_weights),
    "card": Kind(_make_card, _read_card),
    "requirements": Kind(_copy("docs/examples/jetson-orin-classifier.toml", "q.toml"), _read_requirements),
    "profile": Kind(_make_profile, _read_profile),
    "sweep": Kind(_make_sweep, _read_sweep),
    "recipe": Kind(_copy("harness/training/recipes/resnet8.toml", "r.toml"), _read_recipe),
    "record": Kind(_make_run("record.json"), _read_run),
    "samples": Kind(_make_run("samples.parquet"), _read_run),
    "timings": Kind(_make_run("timings/ort-int8-b1.npz"), _read_run),
}


def peak_bytes() -> int:
    """The largest resident set since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def forget_peak() -> int:
    """The resident set now, from which the next peak counts."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def tried(read: Callable[[Path], object], path: Path) -> str:
    """What is wrong with how a file was received; nothing where it was read, or refused in a line."""
    from devices.host.errors import DeviceError
    from export.errors import ExportError
    from harness.errors import HarnessError

    def too_long(_number: int, _frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    before, start = forget_peak(), time.monotonic()
    signal.alarm(MOST_S + 5)
    try:
        read(path)
        fault = ""
    except (HarnessError, ExportError, DeviceError) as error:
        fault = "" if str(error) else f"{type(error).__name__} without a word"  # `harness.ending` makes one line of it
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
        fault = f"{type(error).__name__}: {str(error)[:300]!r}"
    finally:
        signal.alarm(0)
    spent, used = time.monotonic() - start, peak_bytes() - before
    if spent > MOST_S:
        fault += f" {spent:.0f} s"
    return fault + (f" {used / 1e6:.0f} MB" if used > MOST_BYTES else "")


def main() -> None:
    """Damage a file `count` times, and print how each that was not received well was received."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["OMP_NUM_THREADS"] = "1"
    kind = KINDS[asked.kind]
    path = kind.make(asked.folder)
    content = path.read_bytes()
    kind.read(path)
    resource.setrlimit(resource.RLIMIT_DATA, (peak_bytes() + REFUSED_ALLOCATION,) * 2)
    for number, damaged in enumerate(mutations(content, asked.count, asked.seed)):
        path.write_bytes(damaged)
        if fault := tried(kind.read, path):
            kept = asked.folder / f"fault-{number}{path.suffix}"
            kept.write_bytes(damaged)
            print(f"{asked.kind} {number} ({len(damaged)} bytes, {kept}): {fault}", flush=True)
    print("done")


if __name__ == "__main__":
    main()
