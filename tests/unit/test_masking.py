"""Secrets are hidden wherever the output was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.masking import Mask


def shown(secrets: list[str], pieces: list[bytes]) -> bytes:
    mask = Mask(secrets)
    return b"".join([*(mask.take(piece) for piece in pieces), mask.rest()])


@pytest.mark.parametrize(
    ("secrets", "pieces", "expected"),
    [
        ([], [b"plain"], b"plain"),
        (["hidden"], [b"a hidden b"], b"a *** b"),
        (["hidden"], [b"a hid", b"den b"], b"a *** b"),
        (["hidden"], [b"h", b"i", b"d", b"d", b"e", b"n"], b"***"),
        (["hidden"], [b"a hid"], b"a hid"),
        (["hidden"], [b"hihidden"], b"hi***"),
        (["abc", "abcdef"], [b"abc", b"def!"], b"***!"),
        (["abc", "abcdef"], [b"abc", b"d!"], b"***d!"),
        (["aab", "bx"], [b"aab", b"x"], b"***x"),
        (["", "  "], [b"nothing to hide"], b"nothing to hide"),
        (["first line\nsecond line"], [b"| second line |"], b"| *** |"),
        (["pass.*word"], [b"password pass.*word"], b"password ***"),
        (["geheim\u00e4"], ["x geheim\u00e4 x".encode()], b"x *** x"),
    ],
)
def test_examples(secrets: list[str], pieces: list[bytes], expected: bytes) -> None:
    assert shown(secrets, pieces) == expected


def test_what_cannot_be_a_secret_is_shown_at_once() -> None:
    mask = Mask(["hidden"])
    assert mask.take(b"progress 10%\r") == b"progress 10%\r"
    assert mask.take(b"oh") == b"o"


letters = st.text("ab", min_size=1, max_size=5)


@given(st.lists(letters, max_size=3), st.lists(st.text("abc", max_size=6), max_size=8))
def test_where_it_was_cut_makes_no_difference(secrets: list[str], pieces: list[str]) -> None:
    cut = [piece.encode() for piece in pieces]
    assert shown(secrets, cut) == shown(secrets, [b"".join(cut)])


@given(st.lists(letters, min_size=1, max_size=3), st.lists(st.text("abc", max_size=6), max_size=8))
def test_no_secret_is_shown(secrets: list[str], pieces: list[str]) -> None:
    said = shown(secrets, [piece.encode() for piece in pieces])
    assert all(secret.encode() not in part for secret in secrets for part in said.split(b"***"))
