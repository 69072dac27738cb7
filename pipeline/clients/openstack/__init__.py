"""What several adapters share of OpenStack: which account, how to connect, marks, and what an error of it means."""

from pipeline.clients.openstack.account import Account, connect
from pipeline.clients.openstack.asking import each, servers_of, whole_server, zones_of
from pipeline.clients.openstack.connections import Connections
from pipeline.clients.openstack.faults import is_full, may_be_stale, told, whole
from pipeline.clients.openstack.marks import HostMark, Mark, described, ends_at_of, hosted, named_group

__all__ = [
    "Account",
    "Connections",
    "HostMark",
    "Mark",
    "connect",
    "described",
    "each",
    "ends_at_of",
    "hosted",
    "is_full",
    "may_be_stale",
    "named_group",
    "servers_of",
    "told",
    "whole",
    "whole_server",
    "zones_of",
]
