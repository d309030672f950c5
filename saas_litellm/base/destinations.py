"""Addresses that the platform is told to call: read as a caller would read them, not as written.

Only the address itself is looked at. What a name resolves to may change between a check and a
call, so a network that must not be reached from here is for a firewall to close.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings

from saas_litellm.base.refusals import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Names and addresses under which clouds tell a machine its own secrets.
_METADATA_NAMES = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
    }
)
_METADATA_ADDRESSES = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_PRIVATE_NAMES = re.compile(r"(\A|\.)(localhost|local|internal|lan|intranet|home\.arpa)\Z")
_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def check(address: str, *, param: str) -> None:
    """Raises Invalid, naming ``param``, unless an HTTP address that the platform may call.

    Never a link-local address, a metadata service, or an IP address in any but its plain form;
    private ones, loopback included, only where PROVIDER_PRIVATE_ADDRESSES says so. A name, a
    password or a query in it would stay readable, so they are refused too.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise Invalid(f"{address!r} is not an address.", param=param) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise Invalid("The address begins with https:// (or http://).", param=param)
    if any(char.isspace() or not char.isprintable() for char in address):
        raise Invalid("The address has a blank or a control character in it.", param=param)
    if parts.username is not None or parts.password is not None:
        raise Invalid("The key belongs in its own field, not in the address.", param=param)
    if parts.query or parts.fragment:
        raise Invalid("The address has no ? and no #: settings have a field.", param=param)
    _check_host(host, param)


def _check_host(host: str, param: str) -> None:
    # A resolver takes ① and fullwidth letters for the plain ones, and drops a last dot.
    host = unicodedata.normalize("NFKC", host).lower().replace("。", ".").removesuffix(".")
    if host in _METADATA_NAMES:
        raise Invalid("No provider answers at a cloud's metadata service.", param=param)
    try:
        spelled = ipaddress.ip_address(host)
    except ValueError:
        if not _NAME.fullmatch(host):
            raise Invalid(f"{host!r} is no host name.", param=param) from None
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise Invalid(
                "Write an IP address as four decimal numbers, or as IPv6 in brackets.", param=param
            ) from None
        is_private = "." not in host or bool(_PRIVATE_NAMES.search(host))
    else:
        meant = list(_meant_by(spelled))
        for address in meant:
            _check_reachable(address, param)
        is_private = any(map(_is_private, meant))
    if is_private and not settings.PROVIDER_PRIVATE_ADDRESSES:
        raise Invalid(
            "The address is a private one, and PROVIDER_PRIVATE_ADDRESSES is off here.", param=param
        )


def _check_reachable(address: Address, param: str) -> None:
    if address.is_link_local:
        raise Invalid("No provider answers at a link-local address.", param=param)
    if address in _METADATA_ADDRESSES:
        raise Invalid("No provider answers at a cloud's metadata service.", param=param)
    if address.is_unspecified or address.is_multicast:
        raise Invalid("No provider answers at an address of no machine's own.", param=param)


def _is_private(address: Address) -> bool:
    is_local = isinstance(address, ipaddress.IPv6Address) and (
        address.is_site_local or address in _LOCAL_NAT64
    )
    return is_local or not address.is_global


def _meant_by(address: Address) -> Iterator[Address]:
    """Where a packet to this address may end: IPv6 carries IPv4 addresses in several ways."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield _last_four(address)
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif int(address) >> 32 == 0 and int(address) > 1:
        yield _last_four(address)  # ::a.b.c.d, out of use and still understood
    else:
        yield ipaddress.IPv6Address(int(address))  # without a zone


def _last_four(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
