"""Rates: bits are not bytes."""

from __future__ import annotations

import pytest

from pipeline.domain.qos import disk_rate, network_rate


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("100Mbit/s", 100_000_000),
        ("100 Mbit/s", 100_000_000),
        ("1bit/s", 1),
        ("56kbit/s", 56_000),
        ("2.5Gbit/s", 2_500_000_000),
    ],
)
def test_network_rates_are_bits(text: str, bits: int) -> None:
    assert network_rate(text) == bits


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("50MB/s", 50_000_000), ("50MiB/s", 52_428_800), ("1kB/s", 1000), ("1KiB/s", 1024), ("0.5GiB/s", 536_870_912)],
)
def test_disk_rates_are_bytes(text: str, bytes_: int) -> None:
    assert disk_rate(text) == bytes_


@pytest.mark.parametrize("text", ["100MB/s", "1MiB/s", "8B/s"])
def test_bytes_are_no_network_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"in bits such as 100Mbit/s, got bytes in .*1 byte is 8 bits"):
        network_rate(text)


def test_bits_are_no_disk_rate() -> None:
    with pytest.raises(ValueError, match=r"in bytes such as 50MB/s or 50MiB/s, got bits in '100Mbit/s'"):
        disk_rate("100Mbit/s")


@pytest.mark.parametrize(
    "text", ["", "100", "100M", "100Mbit", "100Mbps", "-1Mbit/s", "1,5Mbit/s", "100Mbit/h", "Mbit/s", "٣bit/m"]
)
def test_what_is_no_rate(text: str) -> None:
    for read in (network_rate, disk_rate):
        with pytest.raises(ValueError, match="expected a"):
            read(text)


@pytest.mark.parametrize("text", ["1mbit/s", "1Kbit/s", "1Mbyte/s", "1Kb/s"])
def test_unknown_units_name_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="known are"):
        network_rate(text)


@pytest.mark.parametrize("text", ["0bit/s", "0.1bit/s"])
def test_nothing_is_no_promise(text: str) -> None:
    with pytest.raises(ValueError, match="more than nothing"):
        network_rate(text)
