from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from devices.result import Result

import devices
from devices.host.pack import BUILDER_FILES, WORKER_FILES, worker_archive
from devices.worker.spec import Job

PACKAGE = Path(devices.__file__).parent
ALLOWED = {"devices", "export", "numpy"}
PACKED = [*(f"devices/{name}" for name in WORKER_FILES), *(f"export/{name}" for name in BUILDER_FILES)]
RUNTIMES = {
    "devices/loadgen.py": {"mlperf_loadgen"},
    "devices/engines/onnxruntime.py": {"onnxruntime"},
    "devices/peaks.py": {"onnxruntime"},
    "export/tensorrt.py": {"tensorrt"},
}


def imports(name: str) -> set[str]:
    """Every module that a file imports, at its top or inside."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE.parent / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", PACKED)
def test_worker_file_needs_numpy_and_the_standard_library_of_python_3_10(name: str) -> None:
    ast.parse((PACKAGE.parent / name).read_text(), feature_version=(3, 10))
    foreign = {module.split(".")[0] for module in imports(name)} - set(sys.stdlib_module_names) - ALLOWED
    assert foreign <= RUNTIMES.get(name, set())
    assert "tomllib" not in imports(name), "new in 3.11"


@pytest.mark.parametrize("name", PACKED)
def test_worker_file_imports_only_what_is_packed(name: str) -> None:
    for module in imports(name):
        if module.split(".")[0] in ("devices", "export"):
            relative = module.replace(".", "/")
            assert {f"{relative}.py", f"{relative}/__init__.py"} & set(PACKED), module


def test_same_source_gives_same_bytes(tmp_path: Path) -> None:
    for room in ("devices", "export"):
        shutil.copytree(PACKAGE.parent / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path in tmp_path.rglob("*.py"):
        os.utime(path, (1, 1))
    code = "import sys; from devices.host.pack import worker_archive; sys.stdout.buffer.write(worker_archive())"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert other.stdout == worker_archive()


def test_archive_holds_the_worker_and_nothing_else() -> None:
    names = zipfile.ZipFile(BytesIO(worker_archive())).namelist()
    assert sorted(names) == sorted(["__main__.py", *PACKED])


def test_worker_runs_where_only_numpy_and_the_runtime_are_installed(
    tmp_path: Path, linear: object, job_of: Callable[..., Job], images: np.ndarray
) -> None:
    """An interpreter without site-packages, but with two packages by link: torch, onnx, pandas, pydantic cannot be imported there."""
    site = tmp_path / "site"
    site.mkdir()
    for package in (np, onnxruntime):
        where = Path(package.__file__).parent
        for part in (where, where.with_name(f"{where.name}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)
    job = job_of(linear.path)  # type: ignore[attr-defined]
    folder = tmp_path / "job"
    job.save(folder)
    (tmp_path / "worker.pyz").write_bytes(worker_archive())
    environment = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"]}

    absent = "import torch", "import onnx", "import pandas", "import pydantic"
    for line in absent:
        assert subprocess.run([sys.executable, "-S", "-c", line], env=environment, capture_output=True).returncode == 1, line
    done = subprocess.run([sys.executable, "-S", "worker.pyz", "job"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"step": "done", "done": 1, "total": 1}
    assert Result.load(folder).status == "ok"


def python_3_10() -> str | None:
    """An interpreter that really starts (a pyenv shim may not)."""
    found = [shutil.which("python3.10"), *map(str, Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))]
    return next((path for path in found if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0), None)


def test_worker_compiles_on_python_3_10(tmp_path: Path) -> None:
    python = python_3_10()
    if python is None:
        pytest.skip("no Python 3.10 here; the syntax was checked by ast above")
    zipfile.ZipFile(BytesIO(worker_archive())).extractall(tmp_path)
    done = subprocess.run([python, "-m", "compileall", "-q", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_worker_runs_on_python_3_10(tmp_path: Path, linear: object, job_of: Callable[..., Job]) -> None:
    python = python_3_10()
    if python is None or subprocess.run([python, "-c", "import numpy, onnxruntime"], capture_output=True).returncode != 0:
        pytest.skip("no Python 3.10 with numpy and onnxruntime here")
    job_of(linear.path).save(tmp_path / "job")  # type: ignore[attr-defined]
    (tmp_path / "worker.pyz").write_bytes(worker_archive())
    subprocess.run([python, "worker.pyz", "job"], cwd=tmp_path, check=True, capture_output=True)
    assert Result.load(tmp_path / "job").status == "ok"
