"""The end that an environment's mark tells: an empty store has nothing else to go by.

It is compared with what the provider shows, and not with what was written before: whoever died in between, or failed,
has left a difference that the next look finds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline.domain.environments import TIMED_STATES, Environment
from pipeline.domain.errors import CallsPaused, InfraError, NotFound
from pipeline.envs.books import Books
from pipeline.envs.providers import Provider
from pipeline.ports.drivers import OwnedEnvironment

log = logging.getLogger(__name__)
#: A mark may tell an end that is so many seconds off: most builds take less, and their leases begin when they end.
SLACK_S = 60.0


def renew(books: Books, provider: Provider, there: Sequence[OwnedEnvironment]) -> None:
    """Let marks tell when their environments are taken back now; what fails is done at the next look."""
    marked = {one.environment_id: one.ends_at for one in there}
    known = [loaded.value for loaded in books.environments.many(list(marked))]
    try:
        for one in known:
            if one.state in TIMED_STATES and abs(one.taken_back_at - marked[one.id]) > SLACK_S:
                _renew_alone(provider, one)
    except CallsPaused as paused:
        log.info("provider %s: marks are renewed later: %s", provider.name, paused)


def _renew_alone(provider: Provider, environment: Environment) -> None:
    """One of many: a mark that cannot be written must not keep the others."""
    try:
        provider.driver.mark_end(environment.id, environment.taken_back_at)
    except CallsPaused:
        raise
    except (InfraError, NotFound) as error:  # a machine may be removed meanwhile
        log.warning("environment %s: its mark tells an old end until the next look: %s", environment.id, error)
