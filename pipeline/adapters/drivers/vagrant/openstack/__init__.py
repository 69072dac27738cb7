"""Servers of an OpenStack cloud that vagrant-openstack-provider makes."""
