"""Say whether this container's process is well: `healthcheck.py router | tick | worker`, exit status 0 when it is."""

from __future__ import annotations

import os
import socket
import sys

import redis
from rq import Worker

from pipeline.adapters.stores.redis import PREFIX
from pipeline.settings import Settings
from workers.programs import router_is_well
from workers.tick import OFFICE


def main(process: str) -> int:
    """A router is well while it answers or looks after its addresses, a tick while somebody leads, a worker while it is
    registered from this container.
    """
    if process == "router":
        return 0 if router_is_well(Settings()) else 1
    store = redis.Redis.from_url(os.environ["GREENROOM_REDIS_URL"], socket_timeout=2)
    if process == "tick":
        return 0 if store.exists(f"{PREFIX}office:{OFFICE}") else 1
    here = socket.gethostname()
    return 0 if any(worker.hostname == here for worker in Worker.all(connection=store)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
