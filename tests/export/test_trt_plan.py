"""Plans: only what this user built on this machine, and nobody changed since, is loaded."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.worker.errors import BuildError
from devices.worker.files import sha256_file
from devices.worker.plan import SCHEMA, TensorrtPlan, verify_plan, write_plan

KEY = Path("edge-harness") / "plan.key"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def plan(tmp_path: Path) -> TensorrtPlan:
    path = tmp_path / "engine.plan"
    path.write_bytes(b"native code")
    made = TensorrtPlan(path, sha256_file(path), "0" * 64, "tensorrt", "10.3.0", "gpu", {"batches": [1, 8, 32]}, 12, 3.5, ("slow",))
    made.save()
    return made


def test_round_trip(plan: TensorrtPlan) -> None:
    assert verify_plan(plan.path) == plan
    assert plan.bytes == 11


@given(
    text=st.text(max_size=20),
    options=st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.booleans() | st.text(max_size=5)),
    number=st.floats(0, 1e6), warnings=st.lists(st.text(max_size=9)),
)  # fmt: skip
def test_every_manifest_comes_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, options: dict[str, object], number: float, warnings: list[str]
) -> None:
    path = tmp_path_factory.mktemp("plan") / "engine.plan"
    path.write_bytes(text.encode())
    made = TensorrtPlan(path, sha256_file(path), text, text, text, text, options, 3, number, tuple(warnings))
    made.save()
    assert verify_plan(path) == made


def rewritten(plan: TensorrtPlan, change: Callable[[dict[str, object]], object]) -> None:
    manifest = plan.path.with_name("engine.plan.json")
    facts = json.loads(manifest.read_text())
    change(facts)
    manifest.write_text(json.dumps(facts))


def other_bytes_same_manifest(plan: TensorrtPlan) -> None:
    plan.path.write_bytes(b"other code!")


def other_bytes_and_their_hash(plan: TensorrtPlan) -> None:
    """What an attacker does who knows the format but not the key."""
    plan.path.write_bytes(b"other code!")
    rewritten(plan, lambda facts: facts.update(sha256=sha256_file(plan.path)))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_bytes_same_manifest, "changed since it was built: sha256"),
        (other_bytes_and_their_hash, "not built by this user on this machine, or its manifest was changed"),
        (lambda plan: rewritten(plan, lambda facts: facts.update(target="sm90")), "its manifest was changed"),
        (lambda plan: rewritten(plan, lambda facts: facts.update(seal=None)), "its manifest was changed"),
        (lambda plan: rewritten(plan, lambda facts: facts.update(seal="é")), "its manifest was changed"),
        (lambda plan: rewritten(plan, lambda facts: facts.pop("seal")), "cannot read .*'seal'"),
        (lambda plan: rewritten(plan, lambda facts: facts.update(schema=SCHEMA + 1)), f"schema {SCHEMA + 1}; this version reads {SCHEMA}"),
        (lambda plan: plan.path.with_name("engine.plan.json").write_text("[]"), "cannot read"),
        (lambda plan: plan.path.with_name("engine.plan.json").write_text("{"), "cannot read"),
        (
            lambda plan: plan.path.with_name("engine.plan.json").unlink(),
            r"no manifest \(engine.plan.json\): it was not built by this project",
        ),
        (lambda plan: plan.path.unlink(), "cannot read .*engine.plan: No such file"),
    ],
)
def test_refusals(harm: Callable[[TensorrtPlan], object], message: str, plan: TensorrtPlan) -> None:
    harm(plan)
    with pytest.raises(BuildError, match=message) as caught:
        verify_plan(plan.path)
    assert "build it again from its ONNX file" in str(caught.value)


def test_a_plan_of_another_user_or_machine_is_refused(plan: TensorrtPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorrtPlan and manifest copied whole: the key stays behind."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(BuildError, match="not built by this user on this machine"):
        verify_plan(plan.path)


def test_a_manifest_belongs_to_one_name(plan: TensorrtPlan) -> None:
    """A sealed manifest cannot vouch for a file beside it."""
    other = replace(plan, path=plan.path.with_name("other.plan"))
    plan.path.rename(other.path)
    plan.path.with_name("engine.plan.json").rename(other.path.with_name("other.plan.json"))
    with pytest.raises(BuildError, match="not built by this user"):
        verify_plan(other.path)


def test_the_key_is_the_user_s_alone_and_stays(plan: TensorrtPlan, state: Path) -> None:
    key = state / KEY
    first = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(first) == 32
    plan.save()
    assert key.read_bytes() == first


def test_a_damaged_key_is_named(plan: TensorrtPlan, state: Path) -> None:
    (state / KEY).write_bytes(b"short")
    with pytest.raises(BuildError, match=r"plan\.key holds 5 bytes; expected 32\. Delete it"):
        verify_plan(plan.path)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot write"):
        write_plan(tmp_path / "file" / "engine.plan", b"x")
    write_plan(tmp_path / "new" / "engine.plan", b"x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["engine.plan"]
