"""A promise is kept within a tenth, either way."""

from __future__ import annotations

import pytest

from pipeline.domain.promises import DISK, NETWORK, Measured, promised
from pipeline.domain.qos import QosProfile


@pytest.mark.parametrize(
    ("measured", "kept"), [(100, True), (90, True), (110, True), (89, False), (111, False), (0, False)]
)
def test_a_promise_is_kept_within_a_tenth(measured: float, kept: bool) -> None:
    assert Measured("web-0", "network_in", 100, measured).kept is kept


def test_only_what_was_promised_counts() -> None:
    qos = QosProfile(disk_write_iops=5, network_in=7)
    assert promised(qos, DISK) == {"disk_write_iops": 5}
    assert promised(qos, NETWORK) == {"network_in": 7}
    assert promised(QosProfile(), DISK + NETWORK) == {}
