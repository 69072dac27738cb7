"""Where the demo happens: a temporary home with ports of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli import deployment
from pipeline.cli.output import USAGE, Complaint

#: Settings of the person's own deployment that the demo shares.
SHARED = ("GREENROOM_CHEF_PACKAGE", "GREENROOM_HELPER_STATE")
#: The provider of which nobody needs to tell anything: one machine that poses as three racks.
HERE = "local"


@dataclass(frozen=True)
class Place:
    """Directories of the demo, and the provider of its nodes."""

    root: Path
    provider: str = HERE

    @property
    def here(self) -> bool:
        """Whether its nodes stand on this machine."""
        return self.provider == HERE

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
def temporary_place(provider: str = HERE) -> Iterator[Place]:
    """A home of its own, which this process' environment names; everything is as before afterwards.

    A `provider` other than the demo's own is one of the person's settings.
    """
    told = {"driver": "local", "zones": 3} if provider == HERE else _told_of(provider)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="greenroom-demo-") as root:
        place = Place(Path(root).resolve(), provider)
        place.home.mkdir(mode=0o700)
        (place.home / "config.toml").write_text(_settings(provider, told, *free_ports(2)))
        for name in [name for name in os.environ if name.startswith("GREENROOM_") and name not in SHARED]:
            del os.environ[name]
        os.environ["GREENROOM_HOME"] = str(place.home)
        try:
            yield place
        finally:
            os.environ.clear()
            os.environ.update(before)


def _told_of(provider: str) -> Mapping[str, Any]:
    """What the person's settings say of a provider; the command ends when they know none of that name."""
    settings = deployment.settings()
    if provider not in settings.providers:
        known = ", ".join(sorted(settings.providers))
        raise Complaint(f"there is no provider {provider!r} in {settings.home}/config.toml; there are: {known}", USAGE)
    told: dict[str, Any] = settings.providers[provider].model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return told


def _settings(provider: str, told: Mapping[str, Any], api: int, hooks: int) -> str:
    import tomli_w

    address = f"127.0.0.1:{api}"
    binds = {"api_bind": address, "hooks_bind": f"127.0.0.1:{hooks}", "public_url": f"http://{address}"}
    return tomli_w.dumps({**binds, "default_provider": provider, "providers": {provider: told}})


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
