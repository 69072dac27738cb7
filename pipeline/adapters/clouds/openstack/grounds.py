"""Projects, users, networks and credentials of projects of Greenroom, made by an administrator's account.

A credential can be made by its user alone. So its user gets a fresh password each time, which nobody keeps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack import Account, connect, told
from pipeline.domain.cloud_setups import ROLE, CloudSetup, Found, Part, Piece
from pipeline.domain.errors import PermanentError, UserError
from pipeline.ports.common import Secret

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Nova's and Neutron's fields for the limits of a quota, by the domain's names.
COMPUTE = {
    "servers": "instances",
    "cores": "cores",
    "memory_mib": "ram",
    "server_groups": "server_groups",
    "server_group_members": "server_group_members",
}
NETWORK = {
    "ports": "ports",
    "security_groups": "security_groups",
    "security_group_rules": "security_group_rules",
    "floating_addresses": "floating_ips",
}
#: A new password revokes what was issued before it, and Keystone counts whole seconds.
REVOKED_S = 1.1
#: What Greenroom calls of each service. Any path: a cloud may put something before that of the service.
CALLS = {"compute": ("GET", "POST", "PUT", "DELETE"), "network": ("GET", "POST", "PUT", "DELETE"), "image": ("GET",)}


class OpenStackGrounds:
    """`Grounds` in the domain of the administrator's own project."""

    def __init__(self, admin: Account) -> None:
        self._admin = admin

    @cached_property
    def _connection(self) -> Connection:
        return connect(self._admin)

    @property
    def _identity(self) -> Any:
        return self._connection.identity

    @cached_property
    def _domain(self) -> str:
        return str(self._identity.get_project(self._connection.current_project_id).domain_id)

    def find(self, setup: CloudSetup) -> Found:
        with told(f"looking for what project {setup.project} has in {self._admin}"):
            return dict(self._found(setup))

    def _found(self, setup: CloudSetup) -> Iterator[tuple[Part, Piece]]:
        named = {"name": setup.name, "domain_id": self._domain}
        project = _one(Part.PROJECT, setup.name, self._identity.projects(**named))
        user = _one(Part.USER, setup.name, self._identity.users(**named))
        if project is not None:
            yield Part.PROJECT, _piece(setup, project)
            yield Part.QUOTA, Piece(str(project.id), limits=self._limits(str(project.id)))
        if user is not None:
            yield Part.USER, _piece(setup, user)
            yield from self._credential(setup, user)
        if project is not None and user is not None:
            role = self._role()
            if self._identity.validate_user_has_project_role(project.id, user.id, role):
                yield Part.ROLE, Piece(role)
        yield from self._networks(setup, "" if project is None else str(project.id))

    def _role(self) -> str:
        found = self._identity.find_role(ROLE)
        if found is None:
            raise PermanentError(f"there is no role {ROLE!r} in {self._admin}: `keystone-manage bootstrap` makes it")
        return str(found.id)

    def _limits(self, project: str) -> Mapping[str, int]:
        compute = self._connection.compute.get_quota_set(project)
        network = self._connection.network.get_quota(project)
        return {
            **{name: getattr(compute, field) for name, field in COMPUTE.items()},
            **{name: getattr(network, field) for name, field in NETWORK.items()},
        }

    def _credential(self, setup: CloudSetup, user: Any) -> Iterator[tuple[Part, Piece]]:
        found = [one for one in self._identity.application_credentials(user.id) if one.name == setup.name]
        for one in found:  # its user has one of a name
            mark, _, made_by = str(one.description or "").partition(", ")
            yield (
                Part.CREDENTIAL,
                Piece(str(one.id), ours=mark == setup.mark, made_by=made_by, ruled=bool(one.access_rules)),
            )

    def _networks(self, setup: CloudSetup, project: str) -> Iterator[tuple[Part, Piece]]:
        """The project's own network of the name, or else one that all projects share."""
        network, own = self._connection.network, None
        if project:
            own = _one(Part.NETWORK, setup.network, network.networks(name=setup.network, project_id=project))
        if own is None:
            shared = _one(Part.NETWORK, setup.network, network.networks(name=setup.network, is_shared=True))
            if shared is not None:
                yield Part.NETWORK, Piece(str(shared.id), shared=True)
            return
        yield Part.NETWORK, _piece(setup, own)
        for subnet in list(network.subnets(network_id=own.id))[:1]:
            yield Part.SUBNET, Piece(str(subnet.id), cidr=str(subnet.cidr))
        router = _one(Part.ROUTER, setup.name, network.routers(name=setup.name, project_id=project))
        if router is not None:
            joined = any(True for _ in network.ports(device_id=router.id, network_id=own.id))
            yield Part.ROUTER, replace(_piece(setup, router), whole=joined, leads_to=self._leads_to(router))

    def _leads_to(self, router: Any) -> str:
        outside = (router.external_gateway_info or {}).get("network_id")
        return str(self._connection.network.get_network(outside).name) if outside else ""

    def check(self, setup: CloudSetup) -> None:
        with told(f"looking for network {setup.external_network} in {self._admin}"):
            self._outside(setup)

    def _outside(self, setup: CloudSetup) -> Any:
        found = self._connection.network.networks(name=setup.external_network, is_router_external=True)
        outside = _one(Part.NETWORK, setup.external_network, found)
        if outside is None:
            raise UserError(f"there is no external network {setup.external_network!r} in {self._admin}: name another")
        return outside

    def make(self, part: Part, setup: CloudSetup, found: Found, secret: Secret) -> None:
        makes: Mapping[Part, Callable[[], object]] = {
            Part.PROJECT: lambda: self._identity.create_project(**_named(setup), domain_id=self._domain),
            Part.QUOTA: lambda: self._set_limits(setup, found[Part.PROJECT].id),
            Part.USER: lambda: self._make_user(setup, found[Part.PROJECT].id),
            Part.ROLE: lambda: self._identity.assign_project_role_to_user(
                found[Part.PROJECT].id, found[Part.USER].id, self._role()
            ),
            Part.NETWORK: lambda: self._connection.network.create_network(
                name=setup.network, description=setup.mark, project_id=found[Part.PROJECT].id
            ),
            Part.SUBNET: lambda: self._make_subnet(setup, found),
            Part.ROUTER: lambda: self._make_router(setup, found),
            Part.CREDENTIAL: lambda: self._make_credential(setup, found, secret),
        }
        with told(f"making the {part} of project {setup.project} in {self._admin}"):
            makes[part]()

    def _set_limits(self, setup: CloudSetup, project: str) -> None:
        """Each service refuses a limit below what is used already."""
        compute = _limits_for(COMPUTE, setup)
        network = _limits_for(NETWORK, setup)
        if compute:
            self._connection.compute.update_quota_set(project, **compute)
        if network:
            self._connection.network.update_quota(project, **network)

    def _make_user(self, setup: CloudSetup, project: str) -> None:
        self._identity.create_user(
            **_named(setup),
            domain_id=self._domain,
            default_project_id=project,
            password=secrets.token_urlsafe(32),
            options={"ignore_change_password_upon_first_use": True},
        )

    def _make_subnet(self, setup: CloudSetup, found: Found) -> None:
        self._connection.network.create_subnet(
            name=setup.network,
            description=setup.mark,
            project_id=found[Part.PROJECT].id,
            network_id=found[Part.NETWORK].id,
            ip_version=6 if ":" in setup.cidr else 4,
            cidr=setup.cidr,
        )

    def _make_router(self, setup: CloudSetup, found: Found) -> None:
        network = self._connection.network
        if Part.ROUTER in found:
            id = found[Part.ROUTER].id
        else:
            id = network.create_router(
                **_named(setup),
                project_id=found[Part.PROJECT].id,
                external_gateway_info={"network_id": self._outside(setup).id},
            ).id
        network.add_interface_to_router(id, subnet=found[Part.SUBNET].id)

    def _make_credential(self, setup: CloudSetup, found: Found, secret: Secret) -> None:
        user, project = found[Part.USER].id, found[Part.PROJECT].id
        password = secrets.token_urlsafe(32)
        self._identity.update_user(user, password=password)
        time.sleep(REVOKED_S)
        with closing(self._connection_of(user, project, password)) as own:
            identity: Any = own.identity
            for one in list(identity.application_credentials(user)):
                if one.name == setup.name:
                    identity.delete_application_credential(user, one.id)
            identity.create_application_credential(
                user,
                setup.name,
                description=f"{setup.mark}, {setup.id}",
                secret=secret.reveal(),
                roles=[{"name": ROLE}],
                unrestricted=False,
                **({"access_rules": _access_rules()} if setup.access_rules else {}),
            )

    def _connection_of(self, user: str, project: str, password: str) -> Connection:
        """A connection as a user, to the same cloud by the same certificates."""
        from keystoneauth1.identity.generic import Password
        from keystoneauth1.session import Session
        from openstack.connection import Connection

        config = self._connection.config
        verify, cert = config.get_requests_verify_args()
        auth = Password(self._auth_url, user_id=user, password=password, project_id=project)
        session = Session(auth=auth, verify=verify, cert=cert, timeout=self._admin.timeout_s, app_name="greenroom")
        return Connection(session=session, region_name=config.get_region_name())

    @property
    def _auth_url(self) -> str:
        return str(self._connection.config.get_auth_args()["auth_url"])

    def entry(self, found: Found) -> Mapping[str, str]:
        config = self._connection.config
        verify, _ = config.get_requests_verify_args()
        entry = {
            "auth_url": self._auth_url,
            "application_credential_id": found[Part.CREDENTIAL].id,
            "region_name": config.get_region_name() or "",
            "cacert": verify if isinstance(verify, str) else "",
        }
        return {name: value for name, value in entry.items() if value}

    def close(self) -> None:
        if "_connection" in vars(self):
            self._connection.close()


def _limits_for(fields: Mapping[str, str], setup: CloudSetup) -> dict[str, Any]:
    return {field: setup.limits[name] for name, field in fields.items() if name in setup.limits}


def _named(setup: CloudSetup) -> dict[str, str]:
    return {"name": setup.name, "description": setup.mark}


def _piece(setup: CloudSetup, one: Any) -> Piece:
    return Piece(str(one.id), ours=one.description == setup.mark)


def _one(part: Part, name: str, found: Iterable[Any]) -> Any:
    """The only one, or None; UserError when there are several."""
    there = list(found)
    if len(there) > 1:
        ids = ", ".join(str(one.id) for one in there)
        raise UserError(f"there are {len(there)} {part}s {name!r} in the cloud ({ids}): rename all but one")
    return there[0] if there else None


def _access_rules() -> list[dict[str, str]]:
    return [
        {"service": service, "method": method, "path": "/**"}
        for service, methods in CALLS.items()
        for method in methods
    ]
