"""The normalised reason to run that came of a delivery, and the rules by which it runs or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from pipeline.domain.blueprint import Triggers

#: Asked for in the head commit's message, as the forges' own CI systems read it.
SKIP = re.compile(r"\[(skip[ -]ci|ci[ -]skip|no[ -]ci)\]", re.IGNORECASE)
ZERO_SHA = "0" * 40


class TriggerKind(StrEnum):
    PUSH = "push"
    TAG = "tag"
    PULL_REQUEST = "pull_request"
    API = "api"
    SCHEDULE = "schedule"


@dataclass(frozen=True)
class Trigger:
    """Why a run should start.

    `repository` is a URL to clone; `branch` is the pushed one, or a pull request's source; `target` is the branch
    a pull request wants to merge into; `base` is the commit before; `slug` is the forge's own name of the repository.
    """

    kind: TriggerKind
    forge: str
    repository: str
    sha: str
    slug: str = ""
    branch: str = ""
    tag: str = ""
    base: str = ZERO_SHA
    target: str = ""
    number: int | None = None
    actor: str = ""
    message: str = ""
    url: str = ""

    @property
    def lane(self) -> str:
        """Triggers of one lane supersede each other: the newest wins."""
        if self.kind is TriggerKind.PULL_REQUEST:
            return f"{self.repository}#pull/{self.number}"
        if self.kind is TriggerKind.PUSH:
            return f"{self.repository}#branch/{self.branch}"
        return ""


@dataclass(frozen=True)
class Ignored:
    """A delivery that starts no run, and why. `ended_lane`: its runs are to be superseded (a branch that is gone)."""

    reason: str
    ended_lane: str = ""


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def refusal(trigger: Trigger, rules: Triggers, changed: Sequence[str]) -> str | None:
    """Why the blueprint's `on:` does not run this trigger; None when it does. `changed`: paths of the change."""
    if trigger.kind in (TriggerKind.API, TriggerKind.SCHEDULE):
        return None
    if SKIP.search(trigger.message):
        return "the commit message asks to skip"
    if trigger.kind is TriggerKind.PULL_REQUEST:
        return _pull_request_refusal(trigger, rules, changed)
    return _push_refusal(trigger, rules, changed)


def _pull_request_refusal(trigger: Trigger, rules: Triggers, changed: Sequence[str]) -> str | None:
    wanted = rules.pull_request
    if wanted is None:
        return "on: pull_request is not set"
    if wanted.branches and not matches(trigger.target, wanted.branches):
        return f"target branch {trigger.target} matches none of on.pull_request.branches"
    return _paths_refusal(changed, (), wanted.paths_ignore)


def _push_refusal(trigger: Trigger, rules: Triggers, changed: Sequence[str]) -> str | None:
    wanted = rules.push
    if wanted is None:
        return "on: push is not set"
    if trigger.kind is TriggerKind.TAG:
        return None if matches(trigger.tag, wanted.tags) else f"tag {trigger.tag} matches none of on.push.tags"
    if wanted.branches and not matches(trigger.branch, wanted.branches):
        return f"branch {trigger.branch} matches none of on.push.branches"
    if matches(trigger.branch, wanted.branches_ignore):
        return f"branch {trigger.branch} is in on.push.branches_ignore"
    return _paths_refusal(changed, wanted.paths, wanted.paths_ignore)


def _paths_refusal(changed: Sequence[str], paths: Sequence[str], ignored: Sequence[str]) -> str | None:
    if not changed:
        return None
    if ignored and all(matches(path, ignored) for path in changed):
        return "every changed path is in paths_ignore"
    if paths and not any(matches(path, paths) for path in changed):
        return "no changed path matches paths"
    return None
