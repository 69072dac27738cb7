"""The `format`s of the schema: texts that a pattern alone cannot judge. A ValueError says what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pipeline.domain.cron import parse_cron, parse_zone
from pipeline.domain.durations import parse_duration, parse_positive_duration
from pipeline.domain.qos import disk_rate, network_rate
from pipeline.domain.resources import parse_size
from pipeline.domain.triggers import ref_refusal
from pipeline.domain.wiring import parse_address, parse_cidr, parse_opening, parse_user_data

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SELECTOR = re.compile(r"([a-z][a-z0-9-]*)(?:\[(\d{1,6})\])?", re.ASCII)
_HTTP_CHECK = re.compile(r":(\d{1,5})(/[\x21-\x7e]*)?", re.ASCII)
_LONGEST_PATH = 1024
#: No node has more.
MOST_HUGEPAGES_GIB = 4096


def parse_selector(text: str) -> tuple[str, int | None]:
    """Role and index of `web[0]`; `all` and `web` have no index."""
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise ValueError(f"expected `all`, a role such as `web`, or one of its nodes such as `web[0]`, got {text!r}")
    return match[1], None if match[2] is None else int(match[2])


def _name(text: str) -> None:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"expected a-z, 0-9 and inner hyphens, a letter first, at most 32 in all, got {text[:80]!r}")
    if text == "all":
        raise ValueError("`all` means every node and can name nothing else")


def _ref(text: str) -> None:
    refusal = ref_refusal(text)
    if refusal is not None:
        raise ValueError(refusal)


def _path(text: str) -> None:
    if not text or len(text) > _LONGEST_PATH or any(character < " " for character in text):
        raise ValueError(f"expected a path of 1 to {_LONGEST_PATH} printable characters")
    if ".." in text.split("/"):
        raise ValueError(f"expected a path without `..`, got {text!r}")


def _absolute_path(text: str) -> None:
    _path(text)
    if not text.startswith("/") or not text.strip("/."):
        raise ValueError(f"expected an absolute path such as /srv/shop, got {text!r}")


def _repository_path(text: str) -> None:
    _path(text)
    if text.startswith(("/", "-", "~")):
        raise ValueError(f"expected a path inside the repository, got {text!r}")


def _http_check(text: str) -> None:
    match = _HTTP_CHECK.fullmatch(text)
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError(f"expected `:PORT/PATH` such as :8080/health, got {text!r}")


def _hugepages(text: str) -> None:
    size = parse_size(text)
    if size % 2 or size > MOST_HUGEPAGES_GIB * 1024:
        raise ValueError(f"expected whole pages of 2MiB, {MOST_HUGEPAGES_GIB}GiB at most, got {text!r}")


FORMATS: Mapping[str, Callable[[str], object]] = {
    "greenroom-name": _name,
    "greenroom-selector": parse_selector,
    "greenroom-duration": parse_duration,
    "greenroom-positive-duration": parse_positive_duration,
    "greenroom-cron": parse_cron,
    "greenroom-timezone": parse_zone,
    "greenroom-ref": _ref,
    "greenroom-network-rate": network_rate,
    "greenroom-disk-rate": disk_rate,
    "greenroom-hugepages": _hugepages,
    "greenroom-opening": parse_opening,
    "greenroom-cidr": parse_cidr,
    "greenroom-address": parse_address,
    "greenroom-user-data": parse_user_data,
    "greenroom-absolute-path": _absolute_path,
    "greenroom-repository-path": _repository_path,
    "greenroom-report-path": _path,
    "greenroom-http-check": _http_check,
}
