"""Whose fault failed builds are: a machine's, a zone's, an image's or blueprint's, or the whole provider's.

A failed build alone says nothing. It speaks against its machine when what was built there can be built elsewhere,
and against what was built when others can be built there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: Builds in a row that must fail before anything is suspected.
FAILURES = 3
#: Distinct machines on which an image or service must fail, or that must fail in a zone.
MACHINES = 3
#: Builds older than this say nothing any more, in seconds.
WINDOW_S = 3600.0
#: Builds that are remembered at most.
MOST = 400
#: At most one in so many machines is quarantined at a time without a person.
SHARE = 3


@dataclass(frozen=True)
class Build:
    """What came of one build on one machine, at `at` (epoch seconds); no `fault`: it succeeded."""

    machine: str
    zone: str
    image: str
    service: str
    at: float
    fault: str = ""


@dataclass(frozen=True)
class History:
    """The builds of one provider, oldest first. Of several successes of the same on one machine the last is kept."""

    builds: tuple[Build, ...] = ()


def remember(history: History, builds: Iterable[Build], now: float, window_s: float = WINDOW_S) -> History:
    """The history with new builds, without what is too old to matter."""
    every = [*history.builds, *builds]
    last = {_subject(one): at for at, one in enumerate(every) if not one.fault}
    kept = [one for at, one in enumerate(every) if one.fault or last[_subject(one)] == at]
    return History(tuple(one for one in kept if abs(now - one.at) <= window_s)[-MOST:])


def _subject(build: Build) -> tuple[str, str, str]:
    return build.machine, build.image, build.service


def forgive(history: History, machines: Collection[str]) -> History:
    """The history without the faults of machines that paid for them by a quarantine."""
    return History(tuple(one for one in history.builds if not (one.fault and one.machine in machines)))


@dataclass(frozen=True)
class Judgement:
    """Who is suspected, each with why. `provider`: why the whole provider is, and no machine; empty if it is not."""

    machines: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""

    def poison(self, image: str, service: str) -> str:
        """Why a build of this image and service can succeed nowhere; empty when it may."""
        return self.images.get(image, "") or self.services.get(service, "")


def judge(history: History, now: float, failures: int = FAILURES, window_s: float = WINDOW_S) -> Judgement:
    """Who is to blame for the builds that failed in the window.

    Poisoned is what failed on several machines where others succeed, or succeeded nowhere while others do where it
    failed: its faults count against no machine. Where nothing succeeds at all (any more), the provider is at fault, and
    nobody on it.
    """
    recent = sorted((one for one in history.builds if abs(now - one.at) <= window_s), key=lambda one: one.at)
    faults = [one for one in recent if one.fault]
    if len(faults) < failures:
        return Judgement()
    if len(faults) == len(recent):
        return Judgement(provider=f"none of its last {len(faults)} builds succeeded: {faults[-1].fault}")
    images = _poisoned(recent, "image", lambda one: one.image, failures)
    services = _poisoned(recent, "service", lambda one: one.service, failures)
    clean = [one for one in recent if one.image not in images and one.service not in services]
    if _everywhere(_streak(clean), failures):
        why = f"its last {len(_streak(clean))} builds all failed: {clean[-1].fault}"
        return Judgement(images=images, services=services, provider=why)
    return Judgement(_machines(clean, failures), _zones(clean, failures), images, services)


def _everywhere(streak: Sequence[Build], failures: int) -> bool:
    """Faults on several machines, of several services or of one again and again, with no success in between."""
    most = failures if len({one.service for one in streak}) > 1 else 2 * failures
    return len(streak) >= most and len({one.machine for one in streak}) >= MACHINES


def _streak(builds: Sequence[Build]) -> list[Build]:
    """The faults since the last success."""
    last = max((at for at, one in enumerate(builds) if not one.fault), default=-1)
    return list(builds[last + 1 :])


def _poisoned(recent: Sequence[Build], what: str, name_of: Callable[[Build], str], failures: int) -> dict[str, str]:
    found = {}
    for name in dict.fromkeys(name_of(one) for one in recent if one.fault):
        own = [one for one in recent if name_of(one) == name]
        streak = _streak(own)
        proved = {one.machine: one.at for one in recent if not one.fault and name_of(one) != name}
        if len(streak) >= failures and (_fails_widely(streak, proved) or _never_worked(own, streak, proved)):
            where = len({one.machine for one in streak})
            found[name] = (
                f"{what} {name} is at fault: its last {len(streak)} builds failed, on {where} "
                f"machine{'s' if where > 1 else ''} where others succeed"
            )
    return found


def _fails_widely(streak: Iterable[Build], proved: Mapping[str, float]) -> bool:
    return len({one.machine for one in streak} & proved.keys()) >= MACHINES


def _never_worked(own: Sequence[Build], streak: Sequence[Build], proved: Mapping[str, float]) -> bool:
    """It succeeded nowhere, and each machine proved since its first fault there that the machine is not to blame."""
    first = {one.machine: one.at for one in reversed(streak)}
    return len(own) == len(streak) and all(proved.get(machine, -1.0) >= at for machine, at in first.items())


def _machines(builds: Sequence[Build], failures: int) -> dict[str, str]:
    found = {}
    for name in dict.fromkeys(one.machine for one in builds if one.fault):
        streak = _streak([one for one in builds if one.machine == name])
        if len(streak) >= failures and _convincing(streak, builds, failures):
            found[name] = f"{len(streak)} of its last {len(streak)} builds failed: {streak[-1].fault}"
    return found


def _convincing(streak: Sequence[Build], builds: Sequence[Build], failures: int) -> bool:
    """Whether the faults are the place's: of what can be built, or of several services."""
    good = [one for one in builds if not one.fault]
    images, services = {one.image for one in good}, {one.service for one in good}
    able = [one for one in streak if one.image in images and one.service in services]
    return len(able) >= failures or len({one.service for one in streak}) > 1


def _zones(builds: Sequence[Build], failures: int) -> dict[str, str]:
    """A zone fails with several of its machines while others succeed."""
    found = {}
    for name in dict.fromkeys(one.zone for one in builds if one.fault):
        streak = _streak([one for one in builds if one.zone == name])
        machines = {one.machine for one in streak}
        enough = len(streak) >= failures and len(machines) >= MACHINES
        elsewhere = any(not one.fault and one.zone != name and one.at >= streak[0].at for one in builds if streak)
        if enough and elsewhere and _convincing(streak, builds, failures):
            found[name] = (
                f"zone {name}: {len(streak)} of its last {len(streak)} builds failed, "
                f"on {len(machines)} machines: {streak[-1].fault}"
            )
    return found


def may_quarantine(machines: int, out: int) -> int:
    """How many more of so many machines, of which `out` are quarantined, may be so without a person.

    A provider's only machine never is.
    """
    return max(0, max(1, machines // SHARE) - out) if machines > 1 else 0


@dataclass(frozen=True)
class Sentence:
    """Machines to quarantine, each with why; `spared` says which are suspect and stay, so that enough is left."""

    machines: Mapping[str, str] = field(default_factory=dict)
    spared: str = ""


def sentence(
    judgement: Judgement,
    failed: Iterable[Build],
    in_service: Mapping[str, str],
    probation: Collection[str] = (),
    out: int = 0,
) -> Sentence:
    """Whom to quarantine after builds that failed just now.

    `in_service` maps machines to their zones, those on `probation` included; `out` are quarantined already without a
    person having asked. A zone goes as a whole or not at all.
    """
    most = may_quarantine(len(in_service) + out, out)
    wanted: dict[str, str] = {}
    for build in failed:
        if judgement.provider or judgement.poison(build.image, build.service) or build.machine not in in_service:
            continue
        zone = [name for name, zone in in_service.items() if zone == build.zone and zone in judgement.zones]
        if zone and len(zone) <= most:
            wanted |= dict.fromkeys(zone, judgement.zones[build.zone])
        elif build.machine in judgement.machines:
            wanted.setdefault(build.machine, judgement.machines[build.machine])
        elif build.machine in probation:
            wanted.setdefault(build.machine, f"a build failed while it was on probation: {build.fault}")
    kept = dict(list(wanted.items())[:most])
    left = ", ".join(name for name in wanted if name not in kept)
    whole = len(in_service) + out
    return Sentence(kept, f"{left}: suspect, but {out} of {whole} machines are quarantined already" if left else "")
