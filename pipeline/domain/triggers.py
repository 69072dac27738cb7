"""The normalised reason to run that came of a delivery, and the rules by which it runs or not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from pipeline.domain.blueprint import Triggers
from pipeline.domain.errors import UserError

#: Asked for in the head commit's message, as the forges' own CI systems read it.
SKIP = re.compile(r"\[(skip[ -]ci|ci[ -]skip|no[ -]ci)\]", re.IGNORECASE)
ZERO_SHA = "0" * 40
#: Between repository and number in the lane of a pull request.
PULL = "#pull/"

_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{7,40}")
_SLUG = re.compile(r"[\w.~+-]+(/[\w.~+-]+)*")
_SCP_LIKE = re.compile(r"(?!-)[\w.+-]+@(?!-)[\w.-]+:(?!/?-)[^\s:][^\s]*")
_URL = re.compile(r"(https?://|(ssh|git\+ssh)://((?!-)[\w.+-]+@)?)(?!-)[^\s/?#@]+/[^\s]+")
_URL_WITH_LOGIN = re.compile(r"https?://[^/\s]*@|[a-z+]+://[^/\s:@]*:[^/\s@]*@")
#: What git itself refuses in names of refs (git-check-ref-format), and blanks of any kind.
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^/|/$|\.$|^\.|^@$")
_LONGEST = 1024


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
    a pull request wants to merge into; `base` is the commit before, zeros when nobody knows; `slug` is the forge's own
    name of the repository. `sha` and `base` may be shortened (Bitbucket does so): resolve `sha` before it is kept.
    `message` is the head commit's, or a pull request's title where the forge does not send that. `fork`: the code comes
    from a repository that the target's owners do not control; `home` is theirs then, where `repository` is not.
    `happened_at` is the forge's own time of it, epoch seconds; 0 where it tells none.
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
    fork: bool = False
    home: str = ""
    happened_at: float = 0.0

    @property
    def lane(self) -> str:
        """Triggers of one lane supersede each other: the newest wins."""
        if self.kind is TriggerKind.PULL_REQUEST:
            return f"{self.repository}{PULL}{self.number}"
        if self.kind is TriggerKind.PUSH:
            return f"{self.repository}#branch/{self.branch}"
        return ""


@dataclass(frozen=True)
class Ignored:
    """A delivery that starts no run, and why. `ended_lane`: its runs are to be superseded (a branch that is gone).

    `happened_at` is as in `Trigger`.
    """

    reason: str
    ended_lane: str = ""
    happened_at: float = 0.0


def pull_request_of(lane: str) -> tuple[str, int] | None:
    """Repository and number of a pull request's lane; None for another one."""
    repository, is_pull, number = lane.rpartition(PULL)
    return (repository, int(number)) if is_pull and number.isdecimal() else None


def is_sha(text: str) -> bool:
    """Whether it is a whole commit id."""
    return _SHA.fullmatch(text) is not None


def ref_refusal(name: str) -> str | None:
    """Why this is no name of a branch or tag that may be handed to git; None when it is one."""
    if not name or len(name) > _LONGEST:
        return f"a ref needs 1 to {_LONGEST} characters"
    if name.startswith("-"):
        return f"the ref {name!r} reads like an option"
    return f"{name!r} is no name of a ref that git takes" if _BAD_REF.search(name) else None


def repository_refusal(url: str) -> str | None:
    """Why this is no URL or path of a repository that Greenroom knows how to clone; None when it is one."""
    if len(url) > _LONGEST:
        return f"a repository URL has at most {_LONGEST} characters"
    if _URL_WITH_LOGIN.match(url):
        return "a repository URL with a login in it: take that out, and give the project a token"
    local = url.removeprefix("file://")
    if local.startswith("/") and "\x00" not in local and "\n" not in local:
        return None
    if _URL.fullmatch(url) or ("://" not in url and "::" not in url and _SCP_LIKE.fullmatch(url)):
        return None
    return f"{url!r} is no repository URL: use https://, ssh://, git@host:path or an absolute path"


def checked(trigger: Trigger) -> Trigger:
    """The same trigger; UserError when a field of it could not be handed on to git or to the forge's API."""
    refusals = [repository_refusal(trigger.repository), repository_refusal(trigger.home) if trigger.home else None]
    refusals += [ref_refusal(name) for name in (trigger.branch, trigger.tag, trigger.target) if name]
    if not _SHORT_SHA.fullmatch(trigger.sha) or trigger.sha == ZERO_SHA:
        refusals.append(f"{trigger.sha[:80]!r} is no commit id")
    if not _SHORT_SHA.fullmatch(trigger.base):
        refusals.append(f"{trigger.base[:80]!r} is no commit id")
    if trigger.slug and (not _SLUG.fullmatch(trigger.slug) or ".." in trigger.slug.split("/")):
        refusals.append(f"{trigger.slug[:80]!r} is no name of a repository")
    for refusal in refusals:
        if refusal is not None:
            raise UserError(refusal)
    return trigger


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def refusal(trigger: Trigger, rules: Triggers, changed: Sequence[str]) -> str | None:
    """Why the `on:` of a blueprint does not run this trigger; None when it does. `changed`: paths of the change.

    `rules` are those of the commit itself, of a fork's pull request those of the branch that it wants to merge into.
    """
    if trigger.kind in (TriggerKind.API, TriggerKind.SCHEDULE):
        return None
    if SKIP.search(trigger.message):
        return "the commit message asks to skip"
    if trigger.kind is TriggerKind.PULL_REQUEST:
        return _pull_request_refusal(trigger, rules, changed)
    return _push_refusal(trigger, rules, changed)


def staging_of(trigger: Trigger, rules: Triggers) -> str:
    """The staging that the commit of a trigger goes to, once its run passed; empty when it goes to none."""
    return rules.push.staging if rules.push is not None and trigger.kind is TriggerKind.PUSH else ""


def _pull_request_refusal(trigger: Trigger, rules: Triggers, changed: Sequence[str]) -> str | None:
    wanted = rules.pull_request
    if wanted is None:
        return "on: pull_request is not set"
    if trigger.fork and not wanted.forks:
        return f"it comes from a fork, and on.pull_request.forks of {trigger.target} does not let those in"
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
