"""Texts for a person, made short."""

from __future__ import annotations


def brief(reason: str) -> str:
    """The beginning of a reason in one line: of several lines, the first clauses of the first two."""
    lines = reason.splitlines()
    if len(lines) <= 1:
        return reason
    return "; ".join(line.partition("; ")[0] for line in lines[:2])


def cut(text: str, most: int) -> str:
    """At most so many characters, cut after a word where there is one in the second half."""
    if len(text) <= most:
        return text
    room = text[: most - 1]
    whole, _, _ = room.rpartition(" ")
    return (whole.rstrip(" ,;:") if len(whole) > most / 2 else room) + "…"
