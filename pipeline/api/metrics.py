"""Prometheus metrics, read from the store at each scrape: every API process shows the same."""

from __future__ import annotations

from threading import Lock

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.bootstrap import Application
from pipeline.domain.breakers import BreakerState
from pipeline.domain.runs import Verdict
from pipeline.envs.calls import Breakers

MEDIA_TYPE = CONTENT_TYPE_LATEST
#: Metric to the index it counts, and its help.
GAUGES = {
    "greenroom_runs": ("runs", "runs that are kept"),
    "greenroom_runs_pending": ("runs:pending", "runs that wait to begin"),
    "greenroom_runs_active": ("runs:active", "runs that are running or finishing"),
    "greenroom_triggers_due": ("triggers:due", "triggers that are not planned yet"),
    "greenroom_statuses_due": ("runs:status", "commit statuses that are not reported yet"),
    "greenroom_environments_requested": ("environments:requested", "environments that wait for room"),
    "greenroom_environments_timed": ("environments:ending", "environments in use or held"),
}


class Metrics:
    """What a scrape gets; one at a time, for the counts of machines are kept between them."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._lock = Lock()

    def text(self) -> bytes:
        with self._lock:
            return _render(self._app)


def _render(app: Application) -> bytes:
    registry = CollectorRegistry()
    for name, (index, text) in GAUGES.items():
        Gauge(name, text, registry=registry).set(app.store.count(index))
    standing = Gauge("greenroom_environments_standing", "environments that count", ["provider"], registry=registry)
    for provider in app.settings.providers:
        standing.labels(provider).set(app.store.count(f"environments:standing:{provider}"))
    _pools(app, registry)
    _budgets(app, registry)
    _breakers(app, registry)
    verdicts = Gauge("greenroom_runs_finished", "finished runs that are kept", ["verdict"], registry=registry)
    for verdict in Verdict:
        verdicts.labels(verdict.value).set(app.store.count(f"runs:verdict:{verdict}"))
    _machines(app, registry)
    return generate_latest(registry)


def _machines(app: Application, registry: CollectorRegistry) -> None:
    """By provider, never by machine: there may be a hundred thousand."""
    states = Gauge("greenroom_machines", "machines by state", ["provider", "state"], registry=registry)
    promised = Gauge(
        "greenroom_promised_share", "promised share of what is usable", ["provider", "dimension"], registry=registry
    )
    loaded = Gauge(
        "greenroom_machines_by_load",
        "machines that take nothing by their load, are measured too long ago, or are above a drain limit",
        ["provider", "load"],
        registry=registry,
    )
    for provider in app.settings.providers:
        census = app.censuses.of(provider)
        for state, count in census.states.items():
            states.labels(provider, state.value).set(count)
        for dimension, share in census.promised.items():
            promised.labels(provider, dimension).set(share)
        for load, count in census.by_load.items():
            loaded.labels(provider, load).set(count)


def _pools(app: Application, registry: CollectorRegistry) -> None:
    """Hits and misses are those that the books still keep, as finished runs are."""
    count = Gauge("greenroom_pool", "environments of a warm pool by state", ["pool", "state"], registry=registry)
    asked = Gauge(
        "greenroom_pool_requests", "requests to a warm pool that are kept", ["pool", "got"], registry=registry
    )
    wait = Gauge(
        "greenroom_pool_wait_seconds",
        "median of the last, from the request to ready",
        ["pool", "got"],
        registry=registry,
    )
    for pool in app.pools.all():
        state = app.pools.state(pool.name)
        for name in ("ready", "preparing", "handed_out"):
            count.labels(pool.name, name).set(getattr(state, name))
        count.labels(pool.name, "wanted").set(pool.ready)
        for got, number, waited in (("hit", state.hits, state.hit_wait_s), ("miss", state.misses, state.miss_wait_s)):
            asked.labels(pool.name, got).set(number)
            if waited is not None:
                wait.labels(pool.name, got).set(waited)


def _budgets(app: Application, registry: CollectorRegistry) -> None:
    """What Greenroom may remove of its own accord in an interval, and what it has."""
    allowed = Gauge(
        "greenroom_delete_budget", "removals of its own accord in an interval", ["provider"], registry=registry
    )
    spent = Gauge("greenroom_delete_budget_spent", "of them done in this interval", ["provider"], registry=registry)
    for provider in app.settings.providers:
        allowed.labels(provider).set(app.gate.budget(provider).acts)
        spent.labels(provider).set(app.gate.spent(provider))


def _breakers(app: Application, registry: CollectorRegistry) -> None:
    open_ = Gauge(
        "greenroom_breaker_open", "1 while a kind of call is paused or probed", ["provider", "call"], registry=registry
    )
    breakers = Breakers(app.books, app.clock)
    for provider in app.settings.providers:
        for call, breaker in breakers.of(provider).items():
            open_.labels(provider, call.value).set(breaker.state is not BreakerState.CLOSED)
