"""What goes out for one engine comes back as it was written, or is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.worker.spec import SPEC, EngineSpec, File, FormatError, RuntimeOptions, Watch, lay_out

texts = st.text(max_size=12)
counts = st.integers(1, 10**6)
seconds = st.floats(0, 1e6)


def words_of(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(kind, max_size=2).map(tuple)


words = words_of(texts)
SPECS = st.builds(
    EngineSpec,
    flavour=texts,
    runtime=texts,
    artefact=st.builds(File, texts, texts),
    options=st.builds(
        RuntimeOptions,
        texts,
        texts,
        counts,
        texts,
        st.dictionaries(texts, texts, max_size=2),
        st.tuples(counts, counts, counts),
        st.booleans(),
    ),
    shape=st.tuples(counts, counts, counts),
    batch=counts,
    build=st.integers(0, 99),
    seed=st.integers(0, 2**32),
    device=texts,
    synthetic_clock=st.booleans(),
    timed=st.booleans(),
    watch=st.builds(Watch, words, counts, seconds, words, words, words, words_of(counts), st.none() | seconds, seconds),
)
GOOD = EngineSpec("onnx-fp32", "onnxruntime", File("model.onnx", "0" * 64), RuntimeOptions("input", "logits", 1), (32, 32, 3))


@given(SPECS)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, spec: EngineSpec) -> None:
    folder = tmp_path_factory.mktemp("spec")
    spec.save(folder)
    assert EngineSpec.load(folder) == spec


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"shape": (32, -1, 3)}, "width is -1"),
        ({"shape": (32, 32, 3.0)}, r"channels is 3\.0"),
        ({"options": RuntimeOptions("input", "logits", 0)}, "threads is 0"),
    ],
)
def test_counts_are_whole_numbers_from_1_on(change: dict[str, Any], what: str) -> None:
    with pytest.raises(FormatError, match=f"{what}; expected a whole number, 1 or more"):
        replace(GOOD, **change)


def written(folder: Path, **changes: Any) -> None:
    GOOD.save(folder)
    (folder / SPEC).write_text(json.dumps({**json.loads((folder / SPEC).read_text()), **changes}))


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_an_unknown_schema_is_refused(tmp_path: Path, schema: object) -> None:
    written(tmp_path, schema=schema)
    with pytest.raises(FormatError, match=r"has schema .* reads schema 1"):
        EngineSpec.load(tmp_path)


@pytest.mark.parametrize("changes", [{"artefact": 3}, {"sead": 1}, {"shape": [1, 2]}, {"options": {}}, {"watch": []}, {"batch": "many"}])
def test_damage_is_a_format_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    written(tmp_path, **changes)
    with pytest.raises(FormatError):
        EngineSpec.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_what_is_no_description_is_a_format_error(tmp_path: Path, text: str) -> None:
    (tmp_path / SPEC).write_text(text)
    with pytest.raises(FormatError):
        EngineSpec.load(tmp_path)


def test_a_file_must_be_there_unchanged_and_inside(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    file = File.of(folder, "a")
    assert file.verify(folder).read_bytes() == b"one"
    (folder / "link").symlink_to(tmp_path / "b")
    for path in ("../b", str(tmp_path / "b"), "link"):
        with pytest.raises(FormatError, match="outside"):
            replace(file, path=path).verify(folder)
    with pytest.raises(FormatError, match="missing"):
        replace(file, path="c").verify(folder)
    (folder / "a").write_bytes(b"two")
    with pytest.raises(FormatError, match="changed"):
        file.verify(folder)


def test_an_artefact_is_laid_out_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "my model.onnx").write_bytes(b"weights")
    file = lay_out(tmp_path / "new" / "engine", tmp_path / "my model.onnx")
    assert file.path == "model.onnx"
    assert file.verify(tmp_path / "new" / "engine").read_bytes() == b"weights"
