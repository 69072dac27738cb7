"""An OpenStack cloud, as one account that may see machines shows it, or else as ordinary accounts do."""

from pipeline.adapters.clouds.openstack.cloud import OpenStackCloud
from pipeline.adapters.clouds.openstack.estate import OpenStackEstate
from pipeline.adapters.clouds.openstack.grounds import OpenStackGrounds

__all__ = ["OpenStackCloud", "OpenStackEstate", "OpenStackGrounds"]
