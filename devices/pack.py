"""The worker as one file: a zip archive that Python runs (`zipapp`), built from this package. The same source gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

# What the worker and the agent import; the rest of the package stays at home.
WORKER_FILES = (
    "__init__.py",
    "arrays.py",
    "beside.py",
    "cuda.py",
    "emulator.py",
    "engines/__init__.py",
    "engines/onnxruntime.py",
    "engines/tensorrt.py",
    "engines/torch_tensorrt.py",
    "environment.py",
    "errors.py",
    "files.py",
    "job.py",
    "loadgen.py",
    "lock.py",
    "observed.py",
    "peaks.py",
    "plain.py",
    "process.py",
    "quota.py",
    "reader.py",
    "result.py",
    "rules.py",
    "table.py",
    "target/__init__.py",
    "target/agent.py",
    "target/store.py",
    "target/supervise.py",
    "telemetry/__init__.py",
    "telemetry/cpufreq.py",
    "telemetry/ina3221.py",
    "telemetry/load.py",
    "telemetry/nvidia_smi.py",
    "telemetry/rapl.py",
    "telemetry/sampler.py",
    "telemetry/series.py",
    "telemetry/source.py",
    "telemetry/tegrastats.py",
    "telemetry/thermal.py",
    "telemetry/throttle.py",
    "timing.py",
    "trtexec.py",
    "wire.py",
    "worker.py",
)

# The one part of another room that travels: what builds a TensorRT engine, on the device that runs it.
BUILDER_FILES = ("__init__.py", "errors.py", "plan.py", "tensorrt.py")

_MAIN = "import sys\n\nfrom devices.worker import main\n\nsys.exit(main(sys.argv[1:]))\n"
_DATE = (1980, 1, 1, 0, 0, 0)


@cache
def worker_archive() -> bytes:
    """The bytes of `worker.pyz`. Not made with `zipapp.create_archive`, which writes the files' dates into it."""
    root = Path(__file__).parents[1]
    files = [*(f"devices/{name}" for name in WORKER_FILES), *(f"export/{name}" for name in BUILDER_FILES)]
    sources = {name: (root / name).read_text(encoding="utf-8") for name in files} | {"__main__.py": _MAIN}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sources.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), source)
    return buffer.getvalue()
