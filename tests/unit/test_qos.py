"""Rates: bits are not bytes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pipeline.domain.qos import PROFILES, QosClass, QosProfile, checked_profile, disk_rate, network_rate


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


def test_a_profile_is_told_in_the_words_of_a_blueprint() -> None:
    told = {"class": "guaranteed", "disk_read_iops": 7, "disk_write_bytes": "1MiB/s", "network_in": "1Gbit/s"}
    bounds = QosProfile(QosClass.GUARANTEED, disk_read_iops=7, disk_write_bytes=2**20, network_in=10**9)
    assert checked_profile(told) == bounds
    assert checked_profile({}) == QosProfile()
    based = checked_profile({"profile": "steady", "cpu_shares": 7})
    assert based == replace(PROFILES["steady"], cpu_shares=7)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("network_in", "100MB/s", "network_in: expected a network rate in bits such as 100Mbit/s, got bytes"),
        ("disk_read_bytes", "100Mbit/s", "disk_read_bytes: expected a disk rate in bytes such as 50MB/s"),
        ("disk_read_bytes", 100, "disk_read_bytes: expected a disk rate in bytes such as 50MB/s or 50MiB/s, got '100'"),
        ("network_out", "0bit/s", "network_out: expected more than nothing"),
        ("disk_read_iops", -5, "disk_read_iops: expected a whole number from 1 to 10000000, got -5"),
        ("disk_read_iops", "5", "disk_read_iops: expected a whole number from 1 to 10000000, got '5'"),
        ("cpu_shares", True, "cpu_shares: expected a whole number from 2 to 16384, got True"),
        ("cpu_shares", float("nan"), "cpu_shares: expected a whole number from 2 to 16384, got nan"),
        ("class", "gold", "class: expected guaranteed or burstable or best-effort, got 'gold'"),
        ("profile", "gold", "profile: expected frugal or steady or strong, got 'gold'"),
        ("disk_read_iop", 5, "unknown key 'disk_read_iop'; did you mean disk_read_iops?"),
        ("bandwidth", 5, "unknown key 'bandwidth'; known are profile, class, cpu_shares"),
    ],
)
def test_a_bad_profile_names_key_and_value(key: str, value: object, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        checked_profile({key: value})
