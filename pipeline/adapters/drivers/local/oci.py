"""The runtime's description of a node (OCI runtime specification 1.0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.adapters.drivers.local.image import SHIFT
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources

CPU_PERIOD_US = 100_000
IDS = 65_536
#: Weight of a core against other nodes when the machine is busy; 1024 is the kernel's usual one.
CPU_SHARES = {QosClass.GUARANTEED: 2048, QosClass.BURSTABLE: 1024, QosClass.BEST_EFFORT: 64}
#: The kernel takes no more; the runtime turns shares into a weight where control groups are of version 2.
MOST_SHARES = 262_144
#: Who is ended first when the machine itself runs out of memory.
OOM_SCORE = {QosClass.GUARANTEED: 0, QosClass.BURSTABLE: 100, QosClass.BEST_EFFORT: 500}
CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "IPC_LOCK", "KILL", "MKNOD", "NET_ADMIN",
    "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE",
    "SYS_RESOURCE",
)  # fmt: skip
SYSTEMD_CAPABILITIES = (*CAPABILITIES, "SYS_ADMIN")
#: Calls that no server under test needs and that widen what a hostile one could try on the kernel.
DENIED_CALLS = (
    "add_key", "bpf", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load", "keyctl",
    "open_by_handle_at", "perf_event_open", "request_key", "userfaultfd",
)  # fmt: skip
#: tini reaps what sshd leaves behind, so that a restart of sshd is not the end of the node.
#: With `-r` sshd does not execute itself anew for each connection: a login takes 24 ms of processor time, not 34.
START_SSHD = "mkdir -p /run/sshd /run/lock && /usr/sbin/sshd -r && exec /usr/bin/tini -- sleep infinity"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class NodeShape:
    """What a node's description depends on. `device` is the disk to throttle, `swap` whether swap can be limited,
    `open_files` how many this machine lets a process open at most."""

    hostname: str
    cgroup: str
    rootfs: str
    systemd: bool
    resources: Resources
    qos: QosProfile
    device: str | None
    swap: bool
    open_files: int


def config(shape: NodeShape) -> dict[str, Any]:
    """Describe a node to the runtime."""
    return {
        "ociVersion": "1.0.2",
        "hostname": shape.hostname,
        "root": {"path": shape.rootfs},
        "process": _process(shape),
        "mounts": _mounts(shape.systemd),
        "linux": _linux(shape),
    }


def _process(shape: NodeShape) -> dict[str, Any]:
    capabilities = [f"CAP_{name}" for name in (SYSTEMD_CAPABILITIES if shape.systemd else CAPABILITIES)]
    env = [PATH, "LANG=C.UTF-8", "container=runc"]
    return {
        "terminal": False,
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "args": ["/sbin/init"] if shape.systemd else ["/bin/sh", "-c", START_SSHD],
        "env": env,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "noNewPrivileges": False,
        "oomScoreAdj": OOM_SCORE[shape.qos.qos_class],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": min(1024, shape.open_files), "hard": shape.open_files}],
    }


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _mounts(systemd: bool) -> list[dict[str, Any]]:
    mounts = [
        _mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "nosuid", "mode=755", "size=64k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        _mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777"),  # noqa: S108 - the node's, not the machine's
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/run", "tmpfs", "nosuid", "nodev", "mode=755"),
        _mount("/sys", "sysfs", "ro", "nosuid", "noexec", "nodev"),
    ]
    if systemd:
        mounts.append(_mount("/sys/fs/cgroup", "cgroup", "rw", "nosuid", "noexec", "nodev", "relatime"))
        mounts.append(_mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"))  # noqa: S108 - the node's, not the machine's
        mounts.append(_mount("/run/lock", "tmpfs", "nosuid", "nodev", "mode=1777"))
    return mounts


def _linux(shape: NodeShape) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount", "network", "user", *(["cgroup"] if shape.systemd else [])]
    mapping = [{"containerID": 0, "hostID": SHIFT, "size": IDS}]
    return {
        "namespaces": [{"type": kind} for kind in kinds],
        "uidMappings": mapping,
        "gidMappings": mapping,
        "cgroupsPath": f"/{shape.cgroup}",
        "resources": _limits(shape),
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": [] if shape.systemd else ["/proc/sys", "/proc/sysrq-trigger"],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": list(DENIED_CALLS), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
        },
    }


def _limits(shape: NodeShape) -> dict[str, Any]:
    memory = shape.resources.memory_mib << 20
    quota = max(1000, round(shape.resources.vcpu * CPU_PERIOD_US))
    weight = shape.qos.cpu_shares or CPU_SHARES[shape.qos.qos_class]
    shares = min(MOST_SHARES, max(2, round(shape.resources.vcpu * weight)))
    limits: dict[str, Any] = {
        "memory": {"limit": memory, **({"swap": memory} if shape.swap else {})},
        "cpu": {"quota": quota, "period": CPU_PERIOD_US, "shares": shares},
        "pids": {"limit": pids_limit(shape.resources)},
    }
    disk = _disk(shape.qos, shape.device)
    return {**limits, "blockIO": disk} if disk else limits


def pids_limit(resources: Resources) -> int:
    """One process or thread for each MiB of memory, at least 512."""
    return max(512, resources.memory_mib)


def _disk(qos: QosProfile, device: str | None) -> dict[str, Any]:
    if device is None:
        return {}
    major, _, minor = device.partition(":")
    rates = {
        "throttleReadIOPSDevice": qos.disk_read_iops,
        "throttleWriteIOPSDevice": qos.disk_write_iops,
        "throttleReadBpsDevice": qos.disk_read_bytes,
        "throttleWriteBpsDevice": qos.disk_write_bytes,
    }
    return {key: [{"major": int(major), "minor": int(minor), "rate": rate}] for key, rate in rates.items() if rate}


def disk_limited(qos: QosProfile) -> bool:
    return any((qos.disk_read_iops, qos.disk_write_iops, qos.disk_read_bytes, qos.disk_write_bytes))
