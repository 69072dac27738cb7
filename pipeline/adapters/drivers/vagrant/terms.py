"""What an operator says of a provider that Vagrant drives."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = ipaddress.IPv4Network("10.213.0.0/16")


@dataclass(frozen=True)
class Image:
    """A root file system whose owners are shifted by `first_id`: root of a node is nobody on the machine."""

    root: Path
    first_id: int


@dataclass(frozen=True)
class Terms:
    """`templates` holds the Vagrantfile and a folder for each provider. `images` are those at hand, by name.

    `up_s` and `destroy_s`: how long a call of Vagrant may take, in seconds. `addresses`: the range of which each
    environment gets a /24.
    """

    templates: Path
    images: Callable[[], Mapping[str, Image]]
    addresses: ipaddress.IPv4Network = ADDRESSES
    up_s: float = 240.0
    destroy_s: float = 120.0
