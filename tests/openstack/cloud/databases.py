"""MariaDB with the services' schemas, which are made once and kept, and RabbitMQ."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.openstack.cloud.config import database_url, words
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import HERE, HOST, PASSWORD, State

DATABASES = ("keystone", "glance", "placement", "nova_api", "nova_cell0", "nova_cell1", "neutron")
#: Nobody needs what is in it after a power cut.
MARIADB = (
    "--no-defaults", "--user=root", f"--bind-address={HOST}", "--innodb-buffer-pool-size=128M",
    "--innodb-log-file-size=48M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync", "--performance-schema=OFF", "--max-connections=500",
    "--character-set-server=utf8mb3", "--skip-log-bin", "--skip-name-resolve",
)  # fmt: skip
#: One scheduler thread that does not spin: it shares two cores with everything else.
ERLANG = (
    "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)  # fmt: skip


def start_rabbitmq(state: State, processes: Processes) -> None:
    home = state.run / "rabbit"
    home.mkdir(parents=True, exist_ok=True)
    (home / "enabled_plugins").write_text("[].\n")
    address = {"ERL_EPMD_PORT": str(state.ports.epmd), "ERL_EPMD_ADDRESS": HOST}
    processes.start("epmd", ["epmd", "-port", str(state.ports.epmd)], address)
    env = {
        **address,
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"greenroom{state.ports.base}@localhost",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(state.logs),
        "RABBITMQ_CONFIG_FILE": str(state.etc / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_DIST_PORT": str(state.ports.distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
    }
    # the wrapper in /usr/sbin would change to a user of its own
    processes.start("rabbitmq", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], env)


def start_mariadb(state: State, processes: Processes) -> None:
    """With all schemas in it; those of an earlier cloud with the same programs are taken over."""
    data, kept = state.run / "mysql", state.cache / f"schemas-{_key(state)}"
    if not (data / "complete").exists():
        processes.stop(["mariadb"], signal.SIGKILL, 15.0)  # it may live on after a beginning that was broken off
        for place in (data, state.run / "keystone"):
            shutil.rmtree(place, ignore_errors=True)
        if not kept.exists():
            _make_schemas(state, processes, kept)
        for name in ("mysql", "keystone"):
            shutil.copytree(kept / name, state.run / name)
    _serve(state, processes, data)


def _key(state: State) -> str:
    """What the schemas depend on: the versions, the port that they name, and how they are made."""
    told = (HERE / "requirements.txt").read_bytes() + Path(__file__).read_bytes() + str(state.ports.base).encode()
    return hashlib.sha256(told).hexdigest()[:12]


def _serve(state: State, processes: Processes, data: Path) -> None:
    socket = state.run / "mysql.sock"
    place = (f"--datadir={data}", f"--socket={socket}", f"--port={state.ports.mariadb}")
    processes.start("mariadb", ["mariadbd", *MARIADB, *place, f"--log-error={state.logs / 'mariadb.log'}"])
    ping = ["mariadb-admin", "--no-defaults", "-uroot", f"--socket={socket}", "ping"]
    processes.until(
        lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0, "MariaDB", "mariadb"
    )


def _make_schemas(state: State, processes: Processes, kept: Path) -> None:
    data = state.run / "mysql"
    argv = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"]
    _run(state, [*argv, "--auth-root-authentication-method=normal"])
    _serve(state, processes, data)
    sql = [f"CREATE DATABASE {name};" for name in DATABASES]
    for where in ("%", "localhost"):
        sql += [f"CREATE USER os@'{where}' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO os@'{where}';"]
    client = ["mariadb", "--no-defaults", "-uroot", f"--socket={state.run / 'mysql.sock'}", "-e", " ".join(sql)]
    _run(state, client)
    _migrate(state)
    processes.stop(["mariadb"], signal.SIGTERM, 60.0)
    (data / "complete").touch()
    for old in state.cache.glob("schemas-*"):
        shutil.rmtree(old)
    unfinished = kept.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in ("mysql", "keystone"):
        shutil.copytree(state.run / name, unfinished / name)
    unfinished.rename(kept)
    for name in ("mysql", "keystone"):
        shutil.rmtree(state.run / name)


def _migrate(state: State) -> None:
    """Every schema; Neutron's, the slowest, beside the others."""
    bin_, etc = state.venv / "bin", state.etc
    for name in ("fernet", "credential"):
        (state.run / "keystone" / name).mkdir(parents=True, exist_ok=True)
    neutron = [bin_ / "neutron-db-manage", "--config-file", etc / "neutron/neutron.conf", "upgrade", "heads"]
    with (state.logs / "schemas-neutron.log").open("wb") as log:
        beside = subprocess.Popen([str(word) for word in neutron], stdout=log, stderr=log)
    keystone = [bin_ / "keystone-manage", "--config-file", etc / "keystone/keystone.conf"]
    nova = [bin_ / "nova-manage", "--config-file", etc / "nova/nova.conf"]
    url = f"{state.url('keystone')}/v3"
    root = ["--keystone-user", "root", "--keystone-group", "root"]
    endpoints = [word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", url)]
    queue, db = words(state)["queue"], database_url(state)
    for argv in (
        [*keystone, "fernet_setup", *root],
        [*keystone, "credential_setup", *root],
        [*keystone, "db_sync"],
        [*keystone, "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", "RegionOne", *endpoints],
        [bin_ / "glance-manage", "--config-file", etc / "glance/glance-api.conf", "db_sync"],
        [bin_ / "placement-manage", "--config-file", etc / "placement/placement.conf", "db", "sync"],
        [*nova, "api_db", "sync"],
        [*nova, "cell_v2", "map_cell0", "--database_connection", f"{db}/nova_cell0"],
        [*nova, "cell_v2", "create_cell", "--name", "cell1", "--transport-url", queue,
         "--database_connection", f"{db}/nova_cell1"],
        [*nova, "db", "sync"],
    ):  # fmt: skip
        _run(state, [str(word) for word in argv])
    if beside.wait(timeout=300) != 0:
        raise SystemExit(f"Neutron's schema failed; see {state.logs / 'schemas-neutron.log'}")


def _run(state: State, argv: list[str]) -> None:
    log = state.logs / "schemas.log"
    with log.open("ab") as file:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{Path(argv[0]).name} failed:\n{log.read_text(errors='replace')[-2000:]}")
