"""`python -m pipeline.api.server api|hooks`: one listener."""

from __future__ import annotations

import sys

import uvicorn

from pipeline.api.app import create, create_hooks
from pipeline.bootstrap import build

#: Deliveries that are taken at once; more are answered 503, and forges show that as a failed delivery.
MOST_DELIVERIES = 256
#: What streams that are being read may hold up the end, in seconds.
GRACE_S = 3


def main(arguments: list[str]) -> int:
    """Serve until told to end; 2 for arguments that say nothing."""
    app = build()
    match arguments:
        case ["api"]:
            app.warm_up_handouts()
            serve, bind, most = create(app), app.settings.api_bind, None
        case ["hooks"]:
            serve, bind, most = create_hooks(app), app.settings.hooks_bind, MOST_DELIVERIES
        case _:
            sys.stderr.write("usage: python -m pipeline.api.server api|hooks\n")
            return 2
    app.store.count("runs")  # a Redis that cannot be used is told now, not at the first request
    host, _, port = bind.rpartition(":")
    uvicorn.run(
        serve,
        host=host,
        port=int(port),
        log_level=app.settings.log_level.lower(),
        access_log=False,
        limit_concurrency=most,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
