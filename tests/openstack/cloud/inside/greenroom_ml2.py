"""Binds every port of a hypervisor that poses: no agent runs there, and without a binding Nova gives the build up."""

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api

PREFIX = "fake-"


class PosingMechanismDriver(api.MechanismDriver):
    """A mechanism driver of ML2, found by its entry point."""

    def initialize(self):
        """Nothing is configured."""

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        if not (context.host or "").startswith(PREFIX):
            return
        details = {portbindings.CAP_PORT_FILTER: True, portbindings.VIF_DETAILS_CONNECTIVITY: self.connectivity}
        for segment in context.segments_to_bind[:1]:
            kind = portbindings.VIF_TYPE_OVS
            context.set_binding(segment[api.ID], kind, details, status=constants.PORT_STATUS_ACTIVE)
