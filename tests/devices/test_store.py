from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.worker import store as store_module
from devices.worker.kept import clear, surplus
from devices.worker.store import DamagedError, Store

RAW = bytes(range(256)) * 1000
NAME = hashlib.sha256(RAW).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@given(cut=st.integers(0, len(RAW)), size=st.integers(1, len(RAW)))
def test_an_upload_in_pieces_that_was_broken_off_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int, size: int) -> None:
    store = Store(tmp_path_factory.mktemp("store"))

    def broken() -> object:
        yield RAW[:cut]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        store.receive(NAME, 0, broken())  # type: ignore[arg-type]
    begun = store.begun(NAME)
    assert begun in (0, cut)
    store.receive(NAME, begun, (RAW[i : i + size] for i in range(begun, len(RAW), size)))
    assert store.have(NAME)
    assert store.begun(NAME) == 0


def test_other_bytes_are_not_kept(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="expected"):
        store.receive(NAME, 0, iter([RAW[:-1]]))
    assert (store.have(NAME), store.begun(NAME)) == (False, 0)
    assert list((tmp_path / "store").iterdir()) == []


def test_an_upload_goes_on_only_where_it_stopped_and_is_read_to_its_end(store: Store) -> None:
    pieces = iter([RAW[5:], b"more"])
    with pytest.raises(DamagedError, match="0 bytes are here; the upload went on at 5"):
        store.receive(NAME, 5, pieces)
    assert next(pieces, None) is None, "the next message is not taken for bytes"


def test_a_file_that_changed_is_thrown_away(store: Store, tmp_path: Path) -> None:
    store.receive(NAME, 0, iter([RAW]))
    (tmp_path / "store" / NAME).chmod(0o600)
    (tmp_path / "store" / NAME).write_bytes(b"other")
    assert not store.have(NAME)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_linked_file_takes_no_second_place(store: Store, tmp_path: Path) -> None:
    store.receive(NAME, 0, iter([RAW]))
    store.link(NAME, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_ino == (tmp_path / "store" / NAME).stat().st_ino
    assert (tmp_path / "model.onnx").stat().st_mode & 0o777 == 0o444


def test_room_is_made_of_what_was_longest_unused_and_never_of_what_is_needed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    for age in range(4):
        raw = bytes([age]) * 1000
        names.append(hashlib.sha256(raw).hexdigest())
        store.receive(names[-1], 0, iter([raw]))
        os.utime(tmp_path / "store" / names[-1], (age, age))
    monkeypatch.setattr(Store, "free_bytes", lambda self: 4000 - 1000 * len(list((tmp_path / "store").iterdir())))
    asked: list[int] = []
    store.make_room(2000, {names[0]}, lambda: asked.append(1))
    assert [name for name in names if store.have(name)] == [names[0], names[3]]
    assert asked == [1]
    store.make_room(2000, set(), lambda: asked.append(2))
    assert asked == [1], "there was room"


def test_the_store_has_a_limit_and_the_longest_unused_goes_first(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for age in range(4):
        raw = bytes([age]) * 1000
        names.append(hashlib.sha256(raw).hexdigest())
        store.receive(names[-1], 0, iter([raw]))
        os.utime(tmp_path / "store" / names[-1], (age, age))
    monkeypatch.setattr(store_module, "MOST_BYTES", 4500)
    assert store.trim(500, set()) == {}
    assert store.trim(1501, {names[0]}) == {names[1]: 1000, names[2]: 1000}
    assert [name for name in names if store.have(name)] == [names[0], names[3]]
    assert store.trim(10_000, set(names)) == {}, "what is needed stays, although it is too much"


def test_folders_are_counted_too(tmp_path: Path) -> None:
    for age, name in enumerate(("plan-a", "plan-b", "plan-c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "engine.plan").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (age, age))
    assert [path.name for path in surplus(tmp_path.iterdir(), 1 << 20, most=2)] == ["plan-a"]
    assert [path.name for path in surplus(tmp_path.iterdir(), 1000, {"plan-b"})] == ["plan-a", "plan-c"]


def test_all_is_thrown_away_but_what_is_named_and_what_is_not_of_the_harness(tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.txt"
    elsewhere.write_text("mine")
    cache = tmp_path / "cache"
    for name in ("store/aa", "store/bb.part", "store/agent", "jobs/j/engine/model.onnx", "engines/plan-1/engine.plan", "sysroots/keep"):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(bytes(1000))
    os.link(cache / "store" / "aa", cache / "jobs" / "j" / "same.onnx")
    (cache / "jobs" / "link").symlink_to(tmp_path)
    cleaned = clear(cache, {"agent"})
    assert cleaned["removed"] == {"store": 2, "jobs": 2, "engines": 1}
    assert cleaned["freed_bytes"] - len(str(tmp_path)) == 4000
    left = sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())
    assert left == ["store/agent", "sysroots/keep"] and elsewhere.read_text() == "mine"
    assert clear(cache, {"agent"}) == {"removed": {"store": 0, "jobs": 0, "engines": 0}, "freed_bytes": 0}
    assert clear(tmp_path / "nothing")["freed_bytes"] == 0
