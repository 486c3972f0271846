"""Small real ONNX files, and engines of them that answer in a moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_engines
from quick_engines import ENGINE, Linear, make_linear, opened, some_images, wanted

sys.path.append(str(Path(__file__).parent))

from devices.host.profile import DeviceProfile
from devices.host.session import EngineSession

SessionOf = Callable[..., AbstractContextManager[EngineSession]]


@pytest.fixture
def save_linear() -> Callable[..., None]:
    return quick_engines.save_linear


@pytest.fixture(scope="session")
def standin_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library in the place of NVIDIA's driver, see standin_cuda.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to build the driver's stand-in")
    path = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    source = Path(__file__).with_name("standin_cuda.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", str(path), str(source)], check=True)
    return path


@pytest.fixture
def images() -> np.ndarray:
    return some_images(7)


@pytest.fixture
def linear(tmp_path: Path) -> Linear:
    return make_linear(tmp_path)


@pytest.fixture
def session_of(tmp_path: Path) -> SessionOf:
    """Open one engine of a model file, by default on this machine; keywords go to `Wanted`."""

    @contextmanager
    def build(
        artefact: Path, profile: DeviceProfile | None = None, folder: Path = tmp_path / "engines", seed: int = 0, **changes: Any
    ) -> Iterator[EngineSession]:
        with opened(folder, {ENGINE: wanted(artefact, **changes)}, profile, seed) as sessions:
            yield sessions[ENGINE]

    return build
