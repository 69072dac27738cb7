"""What the cloud needs of the machine: Debian's packages, and an environment with OpenStack from PyPI."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.openstack.cloud.state import HERE, State

PLANE = ("rabbitmq-server", "mariadb-server")
HYPERVISOR = (
    "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "openvswitch-switch", "qemu-system-x86",
    "qemu-utils", "python3-libvirt", "dnsmasq-base", "genisoimage", "mmdebstrap", "ipset", "conntrack", "iproute2",
    "iptables", "iputils-arping", "cpio", "kmod",
)  # fmt: skip
POLICY = Path("/usr/sbin/policy-rc.d")
#: Debian's binding is built for this Python alone.
BINDING = ("libvirt.py", "libvirt_qemu.py", "libvirtmod*.so")
DEBIAN = Path("/usr/lib/python3/dist-packages")


def install(wanted: Sequence[str]) -> list[str]:
    """Install Debian packages that are missing, and start none of their services; their names."""
    missing = [name for name in wanted if not _installed(name)]
    if not missing:
        return []
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"the test cloud needs root, and of Debian or Ubuntu the packages {' '.join(missing)}")
    with _no_services():
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", *missing)
    return missing


def _apt(*words: str) -> None:
    """Run apt-get, whose own messages go to standard error; SystemExit names the command and what to do next."""
    argv = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", *words]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, env=env, check=False, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(
            f"`{' '.join(argv)}` failed with status {done.returncode}: correct what it says above (after an "
            "interruption `dpkg --configure -a`), then start the test cloud again"
        )


def _installed(name: str) -> bool:
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", name], capture_output=True, text=True, check=False)
    return done.stdout == "install ok installed"


@contextmanager
def _no_services() -> Iterator[None]:
    """Packages start their services when they are installed, unless this file says no."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def make_environment(state: State) -> None:
    """OpenStack in a virtual environment, made again when its list of packages changed."""
    wanted, done = HERE / "requirements.txt", state.venv / "requirements.txt"
    if done.exists() and done.read_bytes() == wanted.read_bytes():
        return
    python = shutil.which("python3.11") or shutil.which("python3")
    log = (state.logs / "packages.log").open("wb")
    with log:
        for argv in (
            [python, "-m", "venv", "--clear", state.venv],
            [state.python, "-m", "pip", "install", "-q", "uv"],
            [state.venv / "bin/uv", "pip", "install", "-q", "--python", state.python, "-r", wanted],
        ):
            _run([str(word) for word in argv], log.fileno(), state.logs / "packages.log")
    done.write_bytes(wanted.read_bytes())


def _run(argv: Sequence[str], log: int, name: Path) -> None:
    done = subprocess.run(argv, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} failed:\n{name.read_text(errors='replace')[-2000:]}")


def link_binding(state: State) -> None:
    """Let the environment see Debian's libvirt binding: PyPI's needs a compiler and libvirt's headers."""
    place = next((state.venv / "lib").glob("python3*")) / "site-packages"
    for pattern in BINDING:
        for file in DEBIAN.glob(pattern):
            link = place / file.name
            link.unlink(missing_ok=True)
            link.symlink_to(file)
