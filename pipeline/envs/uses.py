"""What the projects have now, over all providers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pipeline.domain import admission
from pipeline.domain.admission import Use
from pipeline.envs.books import Books


def uses(books: Books, providers: Iterable[str]) -> Mapping[str, Use]:
    """What counts against each project's quota; a project that has nothing is left out."""
    found: dict[str, Use] = defaultdict(Use)
    for provider in providers:
        for loaded in books.environments.everything(f"environments:standing:{provider}"):
            project = loaded.value.project
            found[project] = found[project].plus(admission.use_of(loaded.value))
    return found
