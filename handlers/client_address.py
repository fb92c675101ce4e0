"""Whose request is it? The peer's address, or what proxies that we trust say of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from tracking.setting_values import Network

Address = IPv4Address | IPv6Address
# An IPv6 customer has a whole /64.
IPV6_PREFIX: Final = 64


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of the client, in canonical form.

    Read from the right: each hop that is trusted is believed about the one before it, the first
    that is not trusted is the client. `forwarded_for`: the X-Forwarded-For headers as they came.
    No other header counts. What is no address ends the chain at the proxy that sent it.
    """
    current = parsed(peer)
    if current is None:
        return peer  # no TCP peer: there is nothing to compare with
    hops = [hop for header in forwarded_for for hop in header.split(",")]
    while hops and any(current in network for network in trusted):
        before = parsed(hops.pop())
        if before is None:
            break
        current = before
    return str(current)


def parsed(text: str) -> Address | None:
    """With or without a port: `203.0.113.1:41123`, `[2001:db8::1]:443`; None if it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # of IPv4: an IPv6 address has at least two
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network_of(address: str) -> str:
    """What limits count as one address: of IPv6 the /64."""
    found = parsed(address)
    if not isinstance(found, IPv6Address):
        return address if found is None else str(found)
    return str(IPv6Network((found.packed[:8] + bytes(8), IPV6_PREFIX)))
