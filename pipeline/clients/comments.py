"""Keeps one comment at a pull request, over any forge's API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pipeline.clients.forge_api import call
from pipeline.domain.errors import PermanentError
from pipeline.domain.pulls import Said
from pipeline.ports.common import Secret

#: Comments that are looked through for our own, a page at a time.
PAGE, MOST_PAGES = 100, 20


@dataclass(frozen=True)
class Words:
    """How a forge calls things. `all_` is the address of a pull request's comments, `one` that of a comment by its id.

    `change` is the method that changes one; `wrap` makes the body of a text, `unwrap` finds the text in a comment.
    `size`: the parameter for the size of a page. `values`: the pages are objects that carry their comments there.
    """

    all_: str
    one: Callable[[str], str]
    change: str
    wrap: Callable[[str], Mapping[str, Any]]
    unwrap: Callable[[Mapping[str, Any]], str]
    size: str = "per_page"
    values: str = ""


def plain(text: str) -> Mapping[str, Any]:
    return {"body": text}


def body_of(comment: Mapping[str, Any]) -> str:
    return str(comment.get("body") or "")


def keep(said: Said, words: Words, token: Secret, headers: Mapping[str, str]) -> str:
    """The id of the comment, changed or written now; errors are those of `call`. One that somebody deleted is missed
    and written anew.
    """
    id = said.id or _marked(said, words, token, headers)
    if id:
        answer = call(words.change, words.one(id), words.wrap(said.body), token, headers, absent=True)
        if answer is not None:
            return id
        id = _marked(said, words, token, headers)
        if id:
            call(words.change, words.one(id), words.wrap(said.body), token, headers)
            return id
    return _id(call("POST", words.all_, words.wrap(said.body), token, headers))


def _marked(said: Said, words: Words, token: Secret, headers: Mapping[str, str]) -> str:
    """The id of the comment that bears the mark: it was written, and its writer died before that was noted."""
    seen = ""
    for page in range(1, MOST_PAGES + 1):
        answer = call("GET", f"{words.all_}?{urlencode({words.size: PAGE, 'page': page})}", None, token, headers)
        comments = [one for one in _values(answer, words.values) if isinstance(one, dict)]
        found = next((one for one in comments if said.marked in words.unwrap(one)), None)
        if found is not None:
            return _id(found)
        first = _id(comments[0]) if comments else ""
        if len(comments) < PAGE or first == seen:  # a forge without pages tells all of them each time
            return ""
        seen = first
    return ""


def _values(answer: Any, values: str) -> list[Any]:
    found = answer.get(values) if values and isinstance(answer, dict) else answer
    return found if isinstance(found, list) else []


def _id(comment: Any) -> str:
    id = comment.get("id") if isinstance(comment, dict) else None
    if not isinstance(id, int) or isinstance(id, bool):
        raise PermanentError("the forge took a comment and told no id of it; check the project's API address")
    return str(id)
