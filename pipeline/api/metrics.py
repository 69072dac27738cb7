"""Prometheus metrics, read from the store at each scrape: every API process shows the same."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipeline.bootstrap import Application
from pipeline.domain.runs import Verdict

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


def render(app: Application) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry()
    for name, (index, text) in GAUGES.items():
        Gauge(name, text, registry=registry).set(app.store.count(index))
    standing = Gauge("greenroom_environments_standing", "environments that count", ["provider"], registry=registry)
    for provider in app.settings.providers:
        standing.labels(provider).set(app.store.count(f"environments:standing:{provider}"))
    _budgets(app, registry)
    verdicts = Gauge("greenroom_runs_finished", "finished runs that are kept", ["verdict"], registry=registry)
    for verdict in Verdict:
        verdicts.labels(verdict.value).set(app.store.count(f"runs:verdict:{verdict}"))
    return generate_latest(registry)


def _budgets(app: Application, registry: CollectorRegistry) -> None:
    """What Greenroom may remove of its own accord in an interval, and what it has."""
    allowed = Gauge(
        "greenroom_delete_budget", "removals of its own accord in an interval", ["provider"], registry=registry
    )
    spent = Gauge("greenroom_delete_budget_spent", "of them done in this interval", ["provider"], registry=registry)
    for provider in app.settings.providers:
        allowed.labels(provider).set(app.gate.budget(provider).acts)
        spent.labels(provider).set(app.gate.spent(provider))
