"""What a router has of an environment is compared with what it should have; it is told where that differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.domain.errors import CapacityError
from pipeline.domain.traffic import Backend, same
from pipeline.ports.routers import Router


def tell(router: Router, known: Mapping[str, Backend], wanted: Backend) -> None:
    """Register what differs. Errors: those of `Router.register`.

    Where there is no room for who comes, who left is taken out all the same.
    """
    has = known.get(wanted.environment)
    if same(has, wanted):
        return
    try:
        router.register(wanted)
    except CapacityError:
        left = replace(wanted, targets=tuple(one for one in wanted.targets if has and one in has.targets))
        if has is not None and not same(has, left):
            router.register(left)
        raise
