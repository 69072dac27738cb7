"""Pull requests that have an environment each: what is wanted of one, as data and pure transitions.

What is told of a pull request carries the moment at which it happened at its forge. What is older than what is known
already changes nothing, in whichever order it comes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from pipeline.domain.texts import cut

#: Of a contract whose environment is a pull request's.
OWNER = "pull request "
#: What one comment says of why there is no environment, at most.
LONGEST_WHY = 300
SHORT_SHA = 12


@dataclass(frozen=True, order=True)
class Moment:
    """When something happened at the forge, which tells whole seconds; `received_at` is when we heard of it. In the
    same second a close is the last thing that happened.
    """

    at: float
    closing: bool = False
    received_at: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """An environment for a commit that was not asked for yet. `number` counts those of its pull request."""

    number: int
    sha: str


@dataclass(frozen=True)
class Given:
    """The environment of a commit."""

    environment: str
    sha: str


@dataclass(frozen=True)
class Leaving:
    """An environment that the pull request has no more since `at`. `drains`: another one took its name over."""

    environment: str
    at: float
    why: str
    drains: bool = False


@dataclass(frozen=True)
class Remark:
    """What of it stands at the forge: the comment's `id`, and the text that it has. `mark` is how it is found again.

    `due_at`: when it is written (again); None: it says what it should, or was given up after `tries` for `fault`.
    """

    mark: str
    id: str = ""
    text: str = ""
    due_at: float | None = None
    tries: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Pull:
    """One pull request of a project. `slug` and `url` are the forge's own words for its repository and its page.

    `serving` has its name and address; `coming` is prepared for a newer commit, and takes both over. `fault` is why its
    newest commit has no environment, if so. `ttl_s` None: the project's own.
    """

    id: str
    name: str
    project: str
    number: int
    as_of: Moment
    open: bool
    remark: Remark
    forge: str = ""
    repository: str = ""
    slug: str = ""
    url: str = ""
    title: str = ""
    ttl_s: float | None = None
    last_number: int = 0
    wanted: Wanted | None = None
    coming: Given | None = None
    serving: Given | None = None
    leaving: tuple[Leaving, ...] = ()
    fault: str = ""

    @property
    def owner(self) -> str:
        return f"{OWNER}{self.number}"

    @property
    def busy(self) -> bool:
        """Whether something of it goes on."""
        return bool(self.wanted or self.coming or self.leaving)

    @property
    def environments(self) -> frozenset[str]:
        """All that it knows of."""
        return frozenset(one.environment for one in (self.coming, self.serving, *self.leaving) if one is not None)

    @property
    def newest(self) -> str:
        """The commit of its newest environment, whatever became of it; empty: of none."""
        newest = self.wanted or self.coming or self.serving
        return newest.sha if newest is not None else ""


@dataclass(frozen=True)
class Pushed:
    """What a pull request was when it was opened, or got new commits."""

    moment: Moment
    sha: str
    forge: str
    repository: str
    slug: str
    url: str
    title: str
    ttl_s: float | None = None


def place(repository: str) -> str:
    """Host and path of a repository, however it is reached: over HTTPS and SSH it is the same."""
    if "://" in repository:
        server, _, path = repository.partition("://")[2].partition("/")
        host = server.rpartition("@")[2].partition(":")[0]
    elif "@" in repository.partition(":")[0]:
        login, _, path = repository.partition(":")
        host = login.rpartition("@")[2]
    else:
        host, path = "", repository
    return f"{host.lower()}/{path.strip('/').removesuffix('.git')}"


def name_of(number: int, repository: str, own: str) -> str:
    """The word for a pull request within its project, whose `own` repository needs no further one."""
    if own and place(repository) == place(own):
        return f"pr-{number}"
    return f"pr-{number}-{hashlib.sha256(place(repository).encode()).hexdigest()[:8]}"


def id_of(project: str, name: str) -> str:
    """The word for it in the whole deployment: no two pull requests have the same, whatever projects are called."""
    return f"{project}-{name}"


def new(project: str, number: int, name: str, moment: Moment, mark: str) -> Pull:
    """One of which nothing was known: closed, until somebody says otherwise."""
    return Pull(id_of(project, name), name, project, number, moment, open=False, remark=Remark(mark))


def host_of(pull: Pull, base_domain: str) -> str:
    """Its own name, one label below the base domain: a wildcard certificate holds for it."""
    return f"{pull.id}.{base_domain}"


def is_late(pull: Pull, moment: Moment) -> bool:
    """Whether something newer is known."""
    return moment < pull.as_of


def pushed(pull: Pull, said: Pushed, now: float) -> Pull:
    """Its newest commit is to have an environment; the one that serves goes on until that is ready."""
    if is_late(pull, said.moment):
        return pull
    known = replace(
        pull, as_of=said.moment, open=True, forge=said.forge, repository=said.repository, slug=said.slug, url=said.url,
        title=said.title, ttl_s=said.ttl_s,
    )  # fmt: skip
    if pull.open and pull.newest == said.sha:
        return replace(known, fault="")
    number = pull.last_number + 1
    asking = _without_coming(known, f"{said.sha[:SHORT_SHA]} was pushed", now)
    return replace(asking, wanted=Wanted(number, said.sha), last_number=number, fault="")


def unwanted(pull: Pull, moment: Moment, now: float) -> Pull:
    """Its newest commit asks for no environment any more."""
    if is_late(pull, moment):
        return pull
    return replace(_ended(pull, "its greenroom.yml asks for no environment any more", now), as_of=moment, fault="")


def unread(pull: Pull, moment: Moment, sha: str, why: str) -> Pull:
    """Its newest commit has a greenroom.yml that cannot be taken: what serves goes on."""
    if is_late(pull, moment) or not pull.open:
        return pull
    return replace(pull, as_of=moment, fault=_fault(sha, why))


def closed(pull: Pull, moment: Moment, now: float) -> Pull:
    """It was closed or merged; what comes late of it changes nothing any more."""
    if is_late(pull, moment):
        return pull
    return replace(_ended(pull, "its pull request was closed", now), as_of=moment, open=False, fault="")


def begin(pull: Pull, number: int, environment: str, now: float) -> Pull:
    """The environment of wish `number` was asked for; one of an older wish leaves at once."""
    if pull.wanted is not None and pull.wanted.number == number:
        return replace(pull, wanted=None, coming=Given(environment, pull.wanted.sha))
    if environment in pull.environments:
        return pull
    return replace(pull, leaving=(*pull.leaving, Leaving(environment, now, "a newer commit was pushed meanwhile")))


def refuse(pull: Pull, number: int, why: str) -> Pull:
    """Wish `number` cannot be had; nothing when there is a newer one."""
    if pull.wanted is None or pull.wanted.number != number:
        return pull
    return replace(pull, wanted=None, fault=_fault(pull.wanted.sha, why))


def take_over(pull: Pull, now: float) -> Pull:
    """What was coming serves; what served before drains and leaves."""
    if pull.coming is None:
        return pull
    left = pull.leaving
    if pull.serving is not None:
        why = f"{pull.coming.environment} took its place, with {pull.coming.sha[:SHORT_SHA]}"
        left = (*left, Leaving(pull.serving.environment, now, why, drains=True))
    return replace(pull, serving=pull.coming, coming=None, leaving=left)


def failed(pull: Pull, why: str, now: float) -> Pull:
    """What was coming did not come to stand; what serves goes on."""
    if pull.coming is None:
        return pull
    return replace(_without_coming(pull, "it was not prepared well", now), fault=_fault(pull.coming.sha, why))


def over(pull: Pull, why: str) -> Pull:
    """What served is no more: its time ended, it was given back, or taken back for somebody else."""
    if pull.serving is None:
        return pull
    again = "push to it, or close it and open it again, for another one"
    return replace(pull, serving=None, fault=pull.fault or f"{_line(why)}; {again}")


def left(pull: Pull, environment: str) -> Pull:
    """The end of an environment that it has no more has begun."""
    return replace(pull, leaving=tuple(one for one in pull.leaving if one.environment != environment))


def _ended(pull: Pull, why: str, now: float) -> Pull:
    gone = _without_coming(pull, why, now)
    if gone.serving is not None:
        gone = replace(gone, leaving=(*gone.leaving, Leaving(gone.serving.environment, now, why)), serving=None)
    return replace(gone, wanted=None)


def _without_coming(pull: Pull, why: str, now: float) -> Pull:
    if pull.coming is None:
        return pull
    return replace(pull, coming=None, leaving=(*pull.leaving, Leaving(pull.coming.environment, now, why)))


def _fault(sha: str, why: str) -> str:
    return f"{sha[:SHORT_SHA]} has no environment: {_line(why)}"


def _line(why: str) -> str:
    """What may stand between backquotes in a comment: it came from files and machines of others."""
    return cut(next(iter(why.splitlines()), "").replace("`", "'"), LONGEST_WHY)


@dataclass(frozen=True)
class Shown:
    """What a comment says of an environment that serves. `address` is a URL, empty where it answers no requests."""

    address: str = ""
    lives: str = ""


def comment(pull: Pull, shown: Shown) -> str:
    """What the comment should say now; empty while there is nothing to say yet."""
    if not pull.open:
        return "The pull request was closed, and its environment with it." if pull.remark.id else ""
    newer = pull.wanted or pull.coming
    lines = []
    if pull.serving is not None:
        lines.append(_serving(pull, pull.serving, shown))
    if newer is not None and (pull.serving is not None or pull.remark.id):
        takes = ", and takes its place when it is ready" if pull.serving is not None else ""
        lines.append(f"An environment of {newer.sha[:SHORT_SHA]} is being prepared{takes}.")
    if pull.fault:
        lines.append(f"`{pull.fault}`")
    if not lines and pull.remark.id:
        lines.append("It has no environment now.")
    return "\n\n".join(lines)


def _serving(pull: Pull, serving: Given, shown: Shown) -> str:
    where = f": {shown.address}" if shown.address else ", which has no address of its own"
    return (
        f"Environment of {serving.sha[:SHORT_SHA]}{where}\n\n"
        f"It ends when the pull request is closed, at the latest {shown.lives} after it stood. Log in with "
        f"`greenroom env ssh {pull.name}`."
    )


@dataclass(frozen=True)
class Said:
    """A comment as a forge is told of it."""

    slug: str
    number: int
    text: str
    mark: str
    id: str = field(default="")

    @property
    def body(self) -> str:
        """The text, and the mark in a line that no forge shows (a link definition of Markdown)."""
        return f"{self.text}\n\n{self.marked}"

    @property
    def marked(self) -> str:
        return f"[greenroom-{self.mark}]: # (written by Greenroom)"
