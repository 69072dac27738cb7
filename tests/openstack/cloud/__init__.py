"""An OpenStack on one machine, for tests and for trying Greenroom without a cloud.

Keystone, Glance, Placement, Nova and Neutron from PyPI in an environment of their own, MariaDB and RabbitMQ from
Debian, all on loopback; hypervisors that pose, and one that is real, by software emulation.
"""
