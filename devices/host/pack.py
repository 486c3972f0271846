"""The worker as one file: a zip archive that Python runs, of the whole folder `devices/worker`. The same source gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

_MAIN = "import sys\n\nfrom devices.worker.serve import main\n\nsys.exit(main(sys.argv[1:]))\n"
_DATE = (1980, 1, 1, 0, 0, 0)


@cache
def worker_archive() -> bytes:
    """The bytes of `worker.pyz`. Not made with `zipapp.create_archive`, which writes the files' dates into it."""
    root = Path(__file__).parents[2]
    files = [root / "devices" / "__init__.py", *sorted((root / "devices" / "worker").rglob("*.py"))]
    sources = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in files} | {"__main__.py": _MAIN}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sources.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), source)
    return buffer.getvalue()
