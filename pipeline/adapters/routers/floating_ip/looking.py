"""Whether a server answers, by the rule that HAProxy has for it."""

from __future__ import annotations

import http.client

from pipeline.domain.traffic import Target

#: How long an answer may take, in seconds, and how often it is tried.
LOOK_S, TRIES = 1.0, 2


def answers(target: Target, path: str) -> bool:
    """Whether it answers a path with 2xx or 3xx: once in two tries, so that one lost packet moves nobody."""
    return any(_answers(target, path) for _ in range(TRIES))


def _answers(target: Target, path: str) -> bool:
    connection = http.client.HTTPConnection(target.address, target.port, timeout=LOOK_S)
    try:
        connection.request("GET", path, headers={"Host": "greenroom"})
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False  # no answer is what is looked for
    finally:
        connection.close()
