"""What a server is told at its first boot: who may log in, and which host key is its own."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from pipeline.domain.errors import PermanentError
from pipeline.domain.snapshots import named
from pipeline.ports.drivers import NodeRequest

#: The first words of what cloud-init takes, and the kind of it.
KINDS = {"#!": "x-shellscript", "#cloud-config": "cloud-config"}
#: A snapshot's disk lets those in who had the node that it was taken of. This is done once for each server, before
#: cloud-init writes down the keys of whoever has it now.
FORGET_KEYS = (
    "cloud-init-per", "instance", "greenroom-keys",
    "sh", "-c", 'for home in $(cut -d: -f6 /etc/passwd); do rm -f "$home/.ssh/authorized_keys"; done',
)  # fmt: skip


def user_data(node: NodeRequest, authorized_keys: Sequence[str]) -> str:
    """The node's user data in base64, as Nova takes it.

    The host key is there from the first boot on, so that the first login is verified already. What the project brings
    is a part of its own before that: of two that say the same, cloud-init believes the later one.
    """
    own = f"#cloud-config\n{json.dumps(_config(node, authorized_keys))}\n"
    text = _both(own, node) if node.custom.user_data else own
    return base64.b64encode(text.encode()).decode()


def _config(node: NodeRequest, authorized_keys: Sequence[str]) -> dict[str, object]:
    return {
        **({"bootcmd": [list(FORGET_KEYS)]} if named(node.image) else {}),
        "disable_root": False,
        "ssh_authorized_keys": list(authorized_keys),
        "ssh_deletekeys": True,
        "ssh_genkeytypes": [],
        "ssh_keys": {"ed25519_private": node.host_key.reveal(), "ed25519_public": node.host_public_key},
    }


def _both(own: str, node: NodeRequest) -> str:
    given = node.custom.user_data
    kind = next((kind for start, kind in KINDS.items() if given.startswith(start)), None)
    if kind is None:
        starts = " or ".join(KINDS)
        raise PermanentError(f"node {node.name}: its user data begins with neither {starts}: nobody would read it")
    parts = MIMEMultipart()
    parts.attach(MIMEText(given, kind, "utf-8"))
    parts.attach(MIMEText(own, "cloud-config", "utf-8"))
    return parts.as_string()
