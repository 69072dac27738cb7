"""OpenStack's floating addresses as a router: each host has one, which leads to one node at a time."""

from pipeline.adapters.routers.floating_ip.neutron import ANSWER_S, Neutron
from pipeline.adapters.routers.floating_ip.router import LOOK_S, FloatingRouter
from pipeline.adapters.routers.floating_ip.told import Room

__all__ = ["ANSWER_S", "LOOK_S", "FloatingRouter", "Neutron", "Room"]
