"""Names of engines that another model of the run has: refused before any work, or answers of two models would be mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nearest import make_nearest

from harness.errors import UsageError
from harness.settings import Settings
from harness.stages.names import check_names


@pytest.mark.parametrize("name", ["twin", "parent"])
def test_a_function_may_not_be_called_as_a_model_of_every_run(name: str) -> None:
    with pytest.raises(UsageError, match=f"an engine would be called {name}, and so is another model of this run"):
        check_names(Settings(model="resnet8", flavours=(f"python:{name}",)))


@pytest.mark.parametrize("prefix", ["graph", "simulated"])
def test_a_file_may_not_be_called_as_what_is_read_back_from_another(prefix: str, tmp_path: Path) -> None:
    model, data = make_nearest(tmp_path)
    other = tmp_path / f"{prefix}-nearest.onnx"
    shutil.copyfile(model, other)
    settings = Settings(model=str(model), data=str(data), flavours=(f"file:{other}",))
    check_names(settings)
    with pytest.raises(UsageError, match=f"an engine would be called {other.name}, and so is another model"):
        check_names(settings.model_copy(update={"flavours": (f"file:{model}", f"file:{other}")}))
