"""What works and what does not, as the service itself sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastapi import APIRouter
from pydantic import BaseModel

from pipeline.bootstrap import Application
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import InfraError
from pipeline.domain.runs import RunState
from pipeline.envs.jobs import STATUS_QUEUE, WORK_QUEUE, provider_queue
from pipeline.ports.drivers import Listing
from pipeline.ports.routers import Router

#: A trigger that waits for so long to be planned is stuck, in seconds.
STUCK_S = 30.0
TICK_OFFICE = "tick"
#: Providers that are asked at a time.
AT_ONCE = 8
#: An environment in one of these may outlive its run.
KEPT_STATES = frozenset({EnvironmentState.HELD, EnvironmentState.DESTROYING})


class Check(BaseModel):
    """One thing that was looked at; `remedy` is what to do when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["doctor"])

    @routes.get("/doctor", summary="What works, what does not, and what leaked")
    def doctor() -> list[Check]:
        return list(checks(app))

    return routes


def checks(app: Application) -> Iterator[Check]:
    """All checks; one that meets an error of ours tells it and is not ok."""
    yield _tried("store", partial(_store, app), "set `appendonly yes` and `appendfsync always`")
    yield _tried("tick", partial(_tick, app))
    yield _tried("triggers", partial(_triggers, app))
    yield _tried("workers", partial(_served, app, WORK_QUEUE))
    yield _tried("worker of statuses", partial(_served, app, STATUS_QUEUE))
    yield _tried("what stands", partial(_unserved, app))
    if app.router is not None:
        yield _tried("router", partial(_router, app.router), "see router.log; `greenroom up` starts it again")
    with ThreadPoolExecutor(AT_ONCE) as pool:  # a cloud that does not answer lets only its own checks wait
        for found in pool.map(lambda name: list(_of_provider(app, name)), app.settings.providers):
            yield from found


def _of_provider(app: Application, name: str) -> Iterator[Check]:
    yield _tried(f"workers of {name}", partial(_served, app, provider_queue(name)))
    leaks = f"leaks at {name}"
    try:
        listing = app.provider(name).driver.list()
    except InfraError as error:
        yield Check(name=f"provider {name}", ok=False, detail=str(error))
        yield Check(name=leaks, ok=False, detail=f"not known: provider {name} does not tell what stands there")
    else:
        yield _tried(f"provider {name}", partial(_provider, app, name, listing))
        yield _tried(leaks, partial(_leaks, app, name, listing))
    if app.settings.providers[name].on_openstack():
        yield _tried(f"survey of {name}", partial(_survey, app, name))
    yield _tried(f"delete budget of {name}", partial(_budget, app, name))


def _tried(name: str, look: Callable[[], tuple[bool, str, str]], remedy: str = "") -> Check:
    try:
        ok, detail, what_to_do = look()
    except InfraError as error:
        return Check(name=name, ok=False, detail=str(error), remedy=remedy)
    return Check(name=name, ok=ok, detail=detail, remedy="" if ok else what_to_do)


def _store(app: Application) -> tuple[bool, str, str]:
    if app.settings.allow_lossy_store:
        return True, f"answers with {app.store.count('runs')} runs; losing some is allowed by the settings", ""
    app.store.check_durable()
    return True, f"answers with {app.store.count('runs')} runs, and keeps what it answered", ""


def _tick(app: Application) -> tuple[bool, str, str]:
    leader = app.store.leader(TICK_OFFICE)
    return leader is not None, f"led by {leader}" if leader else "nobody leads", "see tick.log; start `workers tick`"


def _triggers(app: Application) -> tuple[bool, str, str]:
    late = app.books.triggers.due("triggers:due", app.clock.now() - STUCK_S)
    detail = f"{len(late)} wait for more than {STUCK_S:.0f} s to be planned" if late else "none waits"
    return not late, detail, "see the logs of workers and tick"


def _router(router: Router) -> tuple[bool, str, str]:
    return True, f"{router.name} answers: {len(router.known())} environments, {len(router.routes())} stagings", ""


def _unserved(app: Application) -> tuple[bool, str, str]:
    """Environments of a provider that the settings do not name any more: nobody can take them back."""
    timed = app.books.environments.everything("environments:ending")
    kept = {loaded.value.id: loaded.value.provider for loaded in timed}
    active = app.books.runs.everything("runs:active")
    kept |= {loaded.value.id: loaded.value.provider for loaded in active}
    lost = sorted(id for id, provider in kept.items() if provider not in app.settings.providers)
    gone = sorted({kept[id] for id in lost})
    detail = f"{', '.join(lost)} stand at {', '.join(gone)}, which the settings do not name" if lost else "all served"
    return not lost, detail, "put the provider back into config.toml until nothing stands there"


def _served(app: Application, queue: str) -> tuple[bool, str, str]:
    count = app.queue.served_by(queue)
    return count > 0, f"{count} serve the queue {queue}", "see their logs; `greenroom up` starts and restarts them"


def _provider(app: Application, name: str, listing: Listing) -> tuple[bool, str, str]:
    driver = app.provider(name).driver
    capabilities = driver.capabilities
    images = f"images {', '.join(capabilities.images)}" if capabilities.images else "any image"
    detail = f"answers: {len(listing.nodes)} nodes in {len(listing.environments)} environments, {images}"
    if wrong := driver.check():
        return False, "; ".join(wrong), "correct the provider's settings, or the provider"
    if app.settings.providers[name].driver == "local" and not capabilities.images:
        return False, "answers, and has no image", "`make setup` builds it"
    return True, detail, ""


def _survey(app: Application, name: str) -> tuple[bool, str, str]:
    """The last look at all servers and machines, which an account of its own may make."""
    survey = app.surveys.last(name)
    if survey is None:
        return True, "not looked at yet", ""
    if survey.fault:
        return False, survey.fault, f"`greenroom providers sync {name}` looks again, once that is put right"
    return True, f"{len(survey.rows)} servers and nodes seen", ""


def _leaks(app: Application, name: str, listing: Listing) -> tuple[bool, str, str]:
    standing, now = app.books.environments.everything(f"environments:standing:{name}"), app.clock.now()
    left = [loaded.value.id for loaded in standing if _is_leaked(app, loaded.value, now)]
    owned = [one.environment_id for one in listing.environments]
    left += [id for id in owned if app.books.environments.find(id) is None]
    detail = f"leaked: {', '.join(left)}" if left else f"none; {len(standing)} environments are in use or held"
    return not left, detail, "the tick takes them back within a minute; see tick.log when it does not"


def _budget(app: Application, name: str) -> tuple[bool, str, str]:
    budget, spent = app.gate.budget(name), app.gate.spent(name)
    detail = f"{spent} of {budget.acts} removals of its own accord in the last {budget.interval_s:.0f} s"
    remedy = "the rest waits; `greenroom audit` says what goes and why, `delete_budget` in the settings allows more"
    return spent < budget.acts or not budget.acts, detail, remedy


def _is_leaked(app: Application, environment: Environment, now: float) -> bool:
    """Whether nobody uses it any more; an adopted one stays until the time that its mark names."""
    if environment.state in KEPT_STATES or environment.contract is not None:
        return False
    if environment.state is EnvironmentState.ADOPTED:
        return environment.ends_at < now
    owner = app.books.runs.find(environment.owner) if environment.owner else None
    return owner is None or owner.value.state is RunState.FINISHED
