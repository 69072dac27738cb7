"""Where the demo happens: a temporary home with ports of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Settings of the person's own deployment that the demo shares.
SHARED = ("GREENROOM_CHEF_PACKAGE", "GREENROOM_HELPER_STATE")


@dataclass(frozen=True)
class Place:
    """Directories of the demo."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        """The developer's work tree."""
        return self.root / "shop"

    @property
    def bare(self) -> Path:
        """What the developer pushes to."""
        return self.root / "shop.git"


@contextmanager
def temporary_place() -> Iterator[Place]:
    """A home of its own, which this process' environment names; everything is as before afterwards."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="greenroom-demo-") as root:
        place = Place(Path(root).resolve())
        place.home.mkdir(mode=0o700)
        (place.home / "config.toml").write_text(_settings(*free_ports(2)))
        for name in [name for name in os.environ if name.startswith("GREENROOM_") and name not in SHARED]:
            del os.environ[name]
        os.environ["GREENROOM_HOME"] = str(place.home)
        try:
            yield place
        finally:
            os.environ.clear()
            os.environ.update(before)


def _settings(api: int, hooks: int) -> str:
    return (
        f'api_bind = "127.0.0.1:{api}"\nhooks_bind = "127.0.0.1:{hooks}"\npublic_url = "http://127.0.0.1:{api}"\n'
        '[providers.local]\ndriver = "local"\nzones = 3\n'  # one machine poses as three racks
    )


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
