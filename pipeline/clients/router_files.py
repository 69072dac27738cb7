"""What routers were told, in files: changed by one process at a time, and read whole."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.domain.traffic import Backend, Target


@contextmanager
def locked_in(home: Path) -> Iterator[None]:
    """One change of a folder at a time, whichever process makes it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, text: str) -> None:
    """Whoever reads it sees the old content or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def backend_in(body: Mapping[str, object]) -> Backend:
    """What `dataclasses.asdict` made of a backend, after a way through JSON."""
    targets = body["targets"]
    assert isinstance(targets, list)  # noqa: S101  # `asdict` wrote it
    return Backend(**{**body, "targets": tuple(Target(**one) for one in targets)})  # type: ignore[arg-type]  # `asdict` wrote the rest as well
