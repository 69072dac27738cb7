"""`greenroom doctor`: this machine, its processes, and what the service says about itself."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import deployment
from pipeline.cli.client import connect
from pipeline.cli.output import FAILED, OK, Output
from pipeline.cli.render import plain

if TYPE_CHECKING:
    from pipeline.settings import Settings

Check = dict[str, Any]
#: Program to what it is for; the last ones are for providers with the driver `local`.
PROGRAMS = {
    "git": "fetches the commit under test",
    "ssh": "reaches the nodes",
    "bwrap": "keeps tests of a repository away from this machine",
}
LOCAL_PROGRAMS = {
    "runc": "runs the nodes",
    "ip": "gives each environment its own network",
    "nft": "keeps environments apart from each other",
    "mmdebstrap": "builds the image of the nodes",
}
#: Vagrant's providers, and how they come to this machine, whose Vagrant goes by `home`.
VAGRANT_PROVIDERS = {
    "lxc": "`make setup-vagrant` installs it",
    "libvirt": "`scripts/setup vagrant-libvirt` installs it",
    "openstack": "VAGRANT_HOME={home} vagrant plugin install vagrant-openstack-provider",
}
#: Each provider that Debian packs stands here.
VAGRANT_PLUGINS = Path("/usr/share/vagrant-plugins/plugins.d")
#: The provider that it does not pack is named in one of these files of Vagrant's home, as a plugin or to be loaded.
VAGRANT_TOLD = {
    "plugins.json": re.compile(r'"vagrant-openstack-provider"'),
    "Vagrantfile": re.compile(r"^\s*require\b.*openstack", re.MULTILINE),
}
CHEF_CLIENTS = ("cinc-client", "chef-client")
#: What the service may take to look at everything, in seconds: a cloud that does not answer is waited for.
ANSWERS_S = 300.0
#: An ordinary user's PATH leaves these out on Debian.
SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def examine(out: Output, settings: Settings) -> int:
    """Look at everything; FAILED when something is wrong."""
    found = [*_programs(settings), *_vagrant(settings), _chef(settings)]
    up = deployment.running(settings)
    if up is None:
        found.append(_check("processes", ok=False, detail="nothing runs", remedy="start it with `greenroom up`"))
    else:
        found += [_processes(up), *connect(settings).get_within("/v1/doctor", ANSWERS_S)]
    if out.as_json:
        out.data(found)
    else:
        rows = [(_mark(one), plain(one["name"]), plain(_words(one))) for one in found]
        out.table(("", "what", "finding"), rows)
    return OK if all(one["ok"] for one in found) else FAILED


def _check(name: str, *, ok: bool, detail: str, remedy: str = "") -> Check:
    return {"name": name, "ok": ok, "detail": detail, "remedy": "" if ok else remedy}


def _mark(one: Check) -> str:
    return "[green]ok[/]" if one["ok"] else "[red]no[/]"


def _words(one: Check) -> str:
    return f"{one['detail']}; {one['remedy']}" if one["remedy"] else str(one["detail"])


def which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_PATHS)))


def _programs(settings: Settings) -> Iterator[Check]:
    wanted = dict(PROGRAMS)
    if not settings.redis_url:
        wanted["redis-server"] = "the store and the queues"
    if settings.base_domain and settings.router.kind == "haproxy":
        wanted["haproxy"] = "sends requests to environments and stagings"
    if any(provider.driver == "local" for provider in settings.providers.values()):
        wanted |= LOCAL_PROGRAMS
        if os.geteuid() != 0:
            wanted["sudo"] = "starts the node helper as root"
    for program, purpose in wanted.items():
        path = which(program)
        detail = path or f"missing; it {purpose}"
        yield _check(program, ok=path is not None, detail=detail, remedy="`make setup` installs it")


def _vagrant(settings: Settings) -> Iterator[Check]:
    """Which providers Vagrant has here; wrong when one that a provider of the settings needs is missing."""
    needed = {one.vagrant.provider for one in settings.providers.values() if one.driver == "vagrant"}
    if not needed:
        return
    home = settings.home / "vagrant/vagrant"
    ways = {name: how.format(home=home) for name, how in VAGRANT_PROVIDERS.items()}
    has = {name for name in ways if _has(home, name)}
    missing = sorted(needed - has)
    if which("vagrant") is None:
        remedy = ways["libvirt" if needed == {"libvirt"} else "lxc"]
        yield _check("vagrant", ok=False, detail="missing; it makes nodes", remedy=remedy)
        return
    others = [f"{name}: {how}" for name, how in ways.items() if name not in has | needed]
    detail = f"has {', '.join(sorted(has)) or 'no provider'}; to have others: {'; '.join(others)}"
    yield _check("vagrant", ok=not missing, detail=detail, remedy="; ".join(ways[one] for one in missing))


def _has(home: Path, provider: str) -> bool:
    """Whether Vagrant finds a provider from that home of its own; Vagrant itself would take seconds to tell."""
    if provider != "openstack":
        return (VAGRANT_PLUGINS / f"vagrant-{provider}.json").exists()
    files = {home / name: told for name, told in VAGRANT_TOLD.items()}
    return any(told.search(file.read_text()) for file, told in files.items() if file.exists())


def _chef(settings: Settings) -> Check:
    """Never wrong: without a client, nodes are configured by script or from an image that has one."""
    if settings.chef_package:
        return _check("chef", ok=True, detail=f"nodes get {settings.chef_package}")
    local = next((path for name in CHEF_CLIENTS if (path := which(name))), None)
    if local:
        return _check("chef", ok=True, detail=f"{local} of this machine")
    detail = "no client here; nodes use their image's, or `script:`; GREENROOM_CHEF_PACKAGE names a .deb or URL"
    return _check("chef", ok=True, detail=detail)


def _processes(up: deployment.Up) -> Check:
    down = [name for name, facts in up.processes.items() if facts["pid"] is None]
    again = [f"{name} ({facts['starts'] - 1} times)" for name, facts in up.processes.items() if facts["starts"] > 1]
    detail = f"{len(up.processes) - len(down)} of {len(up.processes)} run"
    if again:
        detail += f"; restarted: {', '.join(again)}"
    remedy = f"see the logs of {', '.join(down)}"
    return _check("processes", ok=not down, detail=detail, remedy=remedy)
