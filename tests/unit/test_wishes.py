"""What a provider cannot give is refused before anything is built."""

from __future__ import annotations

import pytest

from pipeline.domain.errors import PermanentError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import SIZES
from pipeline.domain.wiring import Attachment, Custom, Opening, Wiring
from pipeline.envs.wishes import KEYS, check_wishes
from pipeline.ports.common import Secret
from pipeline.ports.drivers import Can, EnvironmentRequest, NodeRequest

WISHES = {
    Can.NETWORKS: (Wiring(attachments=(Attachment("backend"),)), Custom()),
    Can.VIRTUAL_ADDRESS: (Wiring(virtual_address="10.20.0.100"), Custom()),
    Can.FLOATING: (Wiring(floating=True), Custom()),
    Can.CUSTOM: (Wiring(), Custom(flavor="m1.large")),
}


def request(wiring: Wiring, custom: Custom) -> EnvironmentRequest:
    node = NodeRequest(
        "web-0", "web", "plain", SIZES["tiny"], QosProfile(), Secret("key"), "", wiring=wiring, custom=custom
    )
    return EnvironmentRequest("ours", "env-1", "shop", "", 0.0, (node,))


@pytest.mark.parametrize("wish", list(Can))
def test_a_wish_needs_a_driver_that_can(wish: Can) -> None:
    wanted = request(*WISHES[wish])
    check_wishes("lab", wanted, [wish])
    with pytest.raises(PermanentError, match=rf"role web: provider lab cannot give what `{KEYS[wish]}`"):
        check_wishes("lab", wanted, set(Can) - {wish})


def test_what_is_open_needs_nothing() -> None:
    check_wishes("lab", request(Wiring(openings=(Opening("tcp", 443, 443),)), Custom()), [])
