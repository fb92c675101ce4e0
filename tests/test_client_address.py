"""handlers.client_address: whose request it is, behind proxies and without."""

import pytest

from handlers.client_address import client_address, network_of
from tracking.setting_values import networks

TRUSTED = networks("127.0.0.1, 10.0.0.0/8, 2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.0.0.1", ["203.0.113.1:41123"], "203.0.113.1"),  # Azure, IIS
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:0DB8::0001"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:203.0.113.1"], "203.0.113.1"),
        ("::ffff:10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("2001:db8:ffff::7", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.1, 198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.1", "198.51.100.7, 10.2.3.4:80"], "198.51.100.7"),
        ("10.0.0.1", ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ("10.0.0.1", ["203.0.113.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.1, "], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("192.0.2.9", ["203.0.113.1"], "192.0.2.9"),  # nobody we trust says so
        ("::ffff:192.0.2.9", ["203.0.113.1"], "192.0.2.9"),
        ("", ["203.0.113.1"], ""),
    ],
)
def test_only_a_trusted_proxy_says_whose_request_it_is(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == client


@pytest.mark.parametrize(
    ("remote_ip", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_whoever_has_a_network_has_no_more_than_one_address(remote_ip: str, network: str) -> None:
    assert network_of(remote_ip) == network
