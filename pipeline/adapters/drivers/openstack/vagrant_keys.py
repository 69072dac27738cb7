"""What vagrant-openstack-provider is told of an account and of a server, by its own names."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.adapters.drivers.openstack import servers
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.userdata import user_data
from pipeline.clients.openstack import Mark
from pipeline.domain.errors import PermanentError
from pipeline.domain.wiring import Attachment
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

if TYPE_CHECKING:
    from openstack.connection import Connection

#: What a login needs: the provider knows neither application credentials nor tokens, and domains only by name.
AUTH = ("auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name")


def account_keys(connection: Connection) -> Mapping[str, Any]:
    """The account; PermanentError when its entry has not what the provider needs."""
    config = connection.config
    found = config.get_auth_args()
    lacking = [name for name in AUTH if not found.get(name)]
    if lacking:
        names = ", ".join(lacking)
        raise PermanentError(f"cloud {config.name}: Vagrant's provider logs in by password: its entry lacks {names}")
    verified, _ = config.get_requests_verify_args()
    trust = {"ssl_ca_file": verified} if isinstance(verified, str) else {"ssl_verify_peer": bool(verified)}
    return {
        "identity_api_version": "3",
        "openstack_auth_url": _versioned(found["auth_url"]),
        **{name: found[name] for name in AUTH if name != "auth_url"},
        **({"region": config.region_name} if config.region_name else {}),
        **trust,
        "ssh_disabled": True,
    }


def server_keys(
    cloud: Cloud,
    mark: Mark,
    request: EnvironmentRequest,
    node: NodeRequest,
    networks: Mapping[str, str],
    groups: Sequence[str],
    hint: Mapping[str, Any],
) -> Mapping[str, Any]:
    """One server, in those of `networks` (ids by name) that it is attached to; `hint` is what Nova's scheduler is told.

    Its user data go as text: the provider encodes them. It looks for the server's address by the first network's name.
    """
    return {
        "server_name": node.name,
        "image": servers.image_of(cloud, node, mark.deployment, request.project),
        "flavor": servers.flavor_of(cloud, node).id,
        "networks": [{"name": cloud.terms.network}, *(_attached(networks, one) for one in node.wiring.attachments)],
        "security_groups": list(groups),
        "metadata": servers.owned(mark, request, node),
        "user_data": base64.b64decode(user_data(node, (request.authorized_key, *request.login_keys))).decode(),
        **servers.zone_of(cloud, node),
        **hint,
    }


def _attached(networks: Mapping[str, str], one: Attachment) -> dict[str, str]:
    return {"id": networks[one.network], **({"address": one.address} if one.address else {})}


def _versioned(url: str) -> str:
    """The address of Keystone's third version, which the provider does not look for by itself."""
    plain = url.rstrip("/")
    return plain if plain.endswith("/v3") else f"{plain}/v3"
