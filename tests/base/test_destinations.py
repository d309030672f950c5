from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saas_litellm.base import destinations
from saas_litellm.base.refusals import Invalid

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.1.1",
    "100.64.0.1",
    "localhost",
    "LOCALHOST.",
    "api.localhost",
    "vllm",
    "vllm.internal",
    "printer.local",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "[::1]",
    "[fd00::1]",
    "[fec0::1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::808:808]",
    "[2002:7f00:1::]",
    "[2001:0:a00:1:8000:63bf:3fff:fdd2]",
    "[2001:0:808:808:8000:63bf:f5ff:fffe]",
]
NEVER = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.1",
    "127.0.0.1.1",
    "8.8.8",
    "8.8.8.08",
    "127.0.0.1%2e",
    "0",
    "0.0.0.0",
    "[::]",
    "[::ffff:0.0.0.0]",
    "169.254.169.254",
    "169.254.169.254.",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fd00:ec2::254%25eth0]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "[ff02::1]",
    "metadata.google.internal",
    "Metadata.Google.Internal.",
    "metadata",
    "instance-data",
    "a host",
    "host\t",
    "ho\\st",
    "user@host",
]
PUBLIC = [
    "api.openai.com",
    "8.8.8.8",
    "bücher.example",
    "my_host.example",
    "1password.com",
    "[2606:4700::1111]",
    "[64:ff9b::808:808]",
    "[2002:808:808::1]",
    "internal.example",
]


def refused(host: str) -> bool:
    try:
        destinations.check(f"https://{host}/v1", param="api_base")
    except Invalid as refusal:
        return refusal.param == "api_base"
    return False


@pytest.mark.parametrize("is_allowed", [True, False])
def test_where_a_call_may_go(settings: Any, is_allowed: bool) -> None:
    settings.PROVIDER_PRIVATE_ADDRESSES = is_allowed
    assert [host for host in PUBLIC if refused(host)] == []
    assert [host for host in NEVER if not refused(host)] == []
    assert [host for host in PRIVATE if refused(host) is is_allowed] == []


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_judged_as_itself(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    carried = [f"[::ffff:{inner}]", f"[64:ff9b::{inner}]", f"[2002:{high}:{low}::1]"]
    assert {refused(host) for host in carried} == {refused(str(inner))}


@given(st.ip_addresses(v=4))
def test_an_address_is_written_plainly_or_not_at_all(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    one, two, three, four = inner.packed
    assert refused(str(number))
    assert refused(hex(number))
    assert refused(f"0{number:o}")
    assert refused(f"{one}.{number & 0xFFFFFF}")
    assert refused(f"{one}.{two}.{three * 256 + four}")
    assert refused(f"0x{one:x}.{two}.{three}.{four}")
    assert refused(f"{one}.{two}.{three}.0{four}")
