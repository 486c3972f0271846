from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from quick_engines import Linear, Said, some_images

import devices
from devices.host.pack import worker_archive
from devices.host.transports.local import Local

ROOT = Path(devices.__file__).parents[1]
PACKED = ["devices/__init__.py", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "devices" / "worker").rglob("*.py"))]
RUNTIMES = {
    "devices/worker/loadgen.py": {"mlperf_loadgen"},
    "devices/worker/engines/onnxruntime.py": {"onnxruntime"},
    "devices/worker/peaks.py": {"onnxruntime"},
    "devices/worker/tensorrt.py": {"tensorrt"},
}


def imports(name: str) -> set[str]:
    """Every module that a file imports, at its top or inside."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", PACKED)
def test_worker_file_needs_numpy_and_the_standard_library_of_python_3_10(name: str) -> None:
    ast.parse((ROOT / name).read_text(), feature_version=(3, 10))
    foreign = {module.split(".")[0] for module in imports(name)} - set(sys.stdlib_module_names) - {"devices", "numpy"}
    assert foreign <= RUNTIMES.get(name, set())
    assert "tomllib" not in imports(name), "new in 3.11"


@pytest.mark.parametrize("name", PACKED)
def test_worker_file_imports_only_what_is_packed(name: str) -> None:
    for module in imports(name):
        if module.split(".")[0] == "devices":
            relative = module.replace(".", "/")
            assert {f"{relative}.py", f"{relative}/__init__.py"} & set(PACKED), module


def test_same_source_gives_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "devices", tmp_path / "devices", ignore=shutil.ignore_patterns("__pycache__"))
    for path in tmp_path.rglob("*.py"):
        os.utime(path, (1, 1))
    code = "import sys; from devices.host.pack import worker_archive; sys.stdout.buffer.write(worker_archive())"
    variables = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(tmp_path)}
    other = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True, env=variables)
    assert other.stdout == worker_archive()


def test_archive_holds_the_worker_and_nothing_else() -> None:
    names = zipfile.ZipFile(BytesIO(worker_archive())).namelist()
    assert sorted(names) == sorted(["__main__.py", *PACKED])


@pytest.fixture
def bare(tmp_path: Path) -> tuple[str, ...]:
    """An interpreter without site-packages, but with two packages by link: torch, onnx, pandas, pydantic cannot be imported there."""
    site = tmp_path / "site"
    site.mkdir()
    for package in (np, onnxruntime):
        where = Path(package.__file__).parent
        for part in (where, where.with_name(f"{where.name}.libs")):
            if part.exists():
                (site / part.name).symlink_to(part)
    command = ("env", f"PYTHONPATH={site}", sys.executable, "-S")
    for module in ("torch", "onnx", "pandas", "pydantic", "harness"):
        assert subprocess.run([*command, "-c", f"import {module}"], cwd=tmp_path, capture_output=True).returncode == 1, module
    return command


def test_worker_runs_where_only_numpy_and_the_runtime_are_installed(
    bare: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, linear: Linear, session_of: Any
) -> None:
    monkeypatch.setattr(Local, "python", bare)
    serve(linear, session_of)


def serve(linear: Linear, session_of: Any) -> None:
    """Every operation that needs no package more."""
    pool = some_images(7)
    with session_of(linear.path, timed=True) as session:
        np.testing.assert_allclose(session.logits(pool), linear.logits(pool), atol=1e-5)
        session.set_pool(pool)
        assert session.measure(3, 4).ns.shape == (4,)
        for name in ("timed", "idle", "memory", "cool", "rest", "evidence", "peaks", "only_asked"):
            session.call({"op": name, "batch": 3, "seconds": 0.1}, Said)
        np.testing.assert_allclose(session.logits(pool), linear.logits(pool), atol=1e-5)
        assert session.measure(3, 4).ns.shape == (4,)


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


def test_worker_runs_on_python_3_10(monkeypatch: pytest.MonkeyPatch, linear: Linear, session_of: Any) -> None:
    python = python_3_10()
    if python is None or subprocess.run([python, "-c", "import numpy, onnxruntime"], capture_output=True).returncode != 0:
        pytest.skip("no Python 3.10 with numpy and onnxruntime here")
    monkeypatch.setattr(Local, "python", (python,))
    serve(linear, session_of)
