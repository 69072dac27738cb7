"""Every log store does what its port says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters.logs.files import FileLogStore
from pipeline.adapters.logs.memory import MemoryLogStore
from pipeline.domain.errors import NotFound, UserError
from pipeline.ports.logs import LogStore, StoredFile

RUN = "run-0001"


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LogStore:
    return MemoryLogStore() if request.param == "memory" else FileLogStore(str(tmp_path / "runs"))


def write(store: LogStore, name: str, *pieces: bytes, secrets: tuple[str, ...] = ()) -> None:
    with store.writer(RUN, name, secrets) as writer:
        for piece in pieces:
            writer.write(piece)


def test_a_reader_sees_each_piece_at_once(store: LogStore) -> None:
    with store.writer(RUN, "test-1") as writer:
        writer.write(b"one ")
        assert store.read(RUN, "test-1", 0, 100) == b"one "
        writer.write(b"two")
        assert store.read(RUN, "test-1", 4, 100) == b"two"
        assert not store.complete(RUN, "test-1")
    assert store.complete(RUN, "test-1")


def test_reading_goes_by_offset_and_limit(store: LogStore) -> None:
    write(store, "test-1", b"0123456789")
    assert store.read(RUN, "test-1", 3, 4) == b"3456"
    assert store.read(RUN, "test-1", 10, 4) == b""
    assert store.read(RUN, "test-1", 99, 4) == b""


def test_a_log_that_is_opened_again_goes_on(store: LogStore) -> None:
    write(store, "test-1", b"one ")
    with store.writer(RUN, "test-1") as writer:
        assert not store.complete(RUN, "test-1")
        writer.write(b"two")
    assert store.read(RUN, "test-1", 0, 100) == b"one two"


def test_a_writer_that_broke_is_complete_all_the_same(store: LogStore) -> None:
    def stage() -> None:
        with store.writer(RUN, "test-1") as writer:
            writer.write(b"so far")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage()
    assert store.complete(RUN, "test-1")
    assert store.read(RUN, "test-1", 0, 100) == b"so far"


def test_secrets_are_hidden_even_when_split(store: LogStore) -> None:
    write(store, "test-1", b"token=abc", b"def; key=abc", secrets=("abcdef",))
    assert store.read(RUN, "test-1", 0, 100) == b"token=***; key=abc"


def test_logs_are_listed_in_the_order_of_their_making(store: LogStore) -> None:
    for name in ("deliver-1", "configure-1.web-0", "configure-1.db-0", "deliver-1"):
        write(store, name, b"x")
    assert store.logs(RUN) == (
        StoredFile("deliver-1", 2),
        StoredFile("configure-1.web-0", 1),
        StoredFile("configure-1.db-0", 1),
    )


def test_several_logs_may_be_open_at_once(store: LogStore) -> None:
    with store.writer(RUN, "test-1.web-0") as one, store.writer(RUN, "test-1.web-1") as other:
        for writer, piece in itertools.product((one, other), (b"a", b"b")):
            writer.write(piece)
    assert [store.read(RUN, f"test-1.web-{i}", 0, 9) for i in (0, 1)] == [b"ab", b"ab"]


def test_what_is_not_there_is_not_found(store: LogStore) -> None:
    assert (store.logs(RUN), store.artifacts(RUN), store.complete(RUN, "test-1")) == ((), (), False)
    with pytest.raises(NotFound):
        store.read(RUN, "test-1", 0, 1)
    with pytest.raises(NotFound):
        list(store.open_artifact(RUN, "report.xml"))


def test_an_artifact_is_kept_and_replaced(store: LogStore) -> None:
    for content in ([b"first"], [b"second", b" version"]):
        saved = store.save_artifact(RUN, "junit/test-1.xml", content)
    assert saved == StoredFile("junit/test-1.xml", 14)
    assert store.artifacts(RUN) == (saved,)
    assert b"".join(store.open_artifact(RUN, "junit/test-1.xml")) == b"second version"


def test_an_artifact_that_broke_off_is_not_kept(store: LogStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    store.save_artifact(RUN, "a", [b"old"])
    with pytest.raises(ZeroDivisionError):
        store.save_artifact(RUN, "a", broken())
    assert b"".join(store.open_artifact(RUN, "a")) == b"old"
    assert store.artifacts(RUN) == (StoredFile("a", 3),)


def test_artifacts_are_listed_by_name(store: LogStore) -> None:
    for name in ("b", "a/2", "a/1"):
        store.save_artifact(RUN, name, [])
    assert [file.name for file in store.artifacts(RUN)] == ["a/1", "a/2", "b"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_is_not_a_file_and_a_directory(store: LogStore, names: tuple[str, str]) -> None:
    store.save_artifact(RUN, names[0], [b"1"])
    with pytest.raises(UserError):
        store.save_artifact(RUN, names[1], [b"2"])
    assert [file.name for file in store.artifacts(RUN)] == [names[0]]


def test_a_directory_is_no_artifact(store: LogStore) -> None:
    store.save_artifact(RUN, "a/b", [b"1"])
    with pytest.raises(NotFound):
        list(store.open_artifact(RUN, "a"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", ".order", "a\0b", "a\nb", "x" * 300])
def test_a_log_cannot_leave_its_place(store: LogStore, name: str) -> None:
    with pytest.raises(UserError), store.writer(RUN, name):
        pass
    with pytest.raises(UserError):
        store.read(RUN, name, 0, 1)
    with pytest.raises(UserError):
        store.logs(name)


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", "a//b", "a/../b", "a/", "./a", "a\0b", "a\nb", "x" * 300])
def test_an_artifact_cannot_leave_its_place(store: LogStore, name: str) -> None:
    with pytest.raises(UserError):
        store.save_artifact(RUN, name, [b"x"])
    with pytest.raises(UserError):
        list(store.open_artifact(RUN, name))


def test_a_deleted_run_is_forgotten_and_no_other(store: LogStore) -> None:
    write(store, "test-1", b"x")
    store.save_artifact(RUN, "a", [b"x"])
    store.save_artifact("run-0002", "a", [b"x"])
    for _ in range(2):
        store.delete(RUN)
    assert (store.logs(RUN), store.artifacts(RUN)) == ((), ())
    assert len(store.artifacts("run-0002")) == 1


def test_the_twin_breaks_on_demand() -> None:
    store = MemoryLogStore()
    store.broken = OSError("no space left on device")
    with pytest.raises(OSError, match="no space left"):
        store.logs(RUN)


def test_nothing_incomplete_stays_on_the_disk(tmp_path: Path) -> None:
    store = FileLogStore(str(tmp_path))
    store.save_artifact(RUN, "a", [b"x"])
    with pytest.raises(UserError):
        store.save_artifact(RUN, "a/b", [b"x"])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a"]
