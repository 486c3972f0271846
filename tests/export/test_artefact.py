"""The manifest: it comes back as it was written, and a file that changed is not trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import ModelProto

from export.artefact import Artefact, load_artefact
from export.errors import ExportError


@pytest.fixture
def saved(graph: ModelProto, planted: Callable[[ModelProto, str], Artefact]) -> tuple[Artefact, Path]:
    artefact = planted(graph, "fp32")
    artefact.save()
    return artefact, artefact.path.with_suffix(".json")


def test_round_trip(saved: tuple[Artefact, Path]) -> None:
    artefact, manifest = saved
    assert load_artefact(manifest) == artefact
    assert artefact.bytes == artefact.path.stat().st_size


def test_the_folder_may_move(saved: tuple[Artefact, Path], tmp_path: Path) -> None:
    artefact, manifest = saved
    (tmp_path / "elsewhere").mkdir()
    for path in (artefact.path, manifest):
        path.rename(tmp_path / "elsewhere" / path.name)
    assert load_artefact(tmp_path / "elsewhere" / manifest.name).sha256 == artefact.sha256


def test_a_changed_file_is_refused(saved: tuple[Artefact, Path]) -> None:
    artefact, manifest = saved
    with artefact.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ExportError, match="changed since it was exported"):
        load_artefact(manifest)


@pytest.mark.parametrize("change", [{"schema": 99}, {"schema": None}, {"surprise": 1}, {"path": "/etc/absent"}])
def test_other_manifests_are_refused(change: dict[str, object], saved: tuple[Artefact, Path]) -> None:
    _, manifest = saved
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(ExportError):
        load_artefact(manifest)
    for text in ("{", "[]", "[" * 100_000):
        manifest.write_text(text)
        with pytest.raises(ExportError, match="cannot read artefact"):
            load_artefact(manifest)
