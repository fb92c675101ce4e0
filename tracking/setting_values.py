"""What the value of a setting may be: text -> value. ValueError says what was expected."""

from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

Network = IPv4Network | IPv6Network

# RFC 7518, section 3.2: a key of at least the hash's size, 256 bits for HS256.
MIN_SECRET_BYTES: Final = 32


def text(value: str) -> str:
    return value


def items(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """In any case; the value is as the choice is written here."""
    by_lower_case = {choice.lower(): choice for choice in choices}

    def parse(value: str) -> str:
        if value.lower() not in by_lower_case:
            raise ValueError("one of " + ", ".join(choices))
        return by_lower_case[value.lower()]

    return parse


def readable_file(value: str) -> str:
    try:
        with Path(value).open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"a readable file ({error.strerror})") from None


def networks(value: str) -> tuple[Network, ...]:
    """Addresses, and networks in CIDR notation; host bits may be set."""
    try:
        return tuple(ip_network(each, strict=False) for each in items(value))
    except ValueError:
        raise ValueError("addresses or networks (10.0.0.0/8), separated by commas") from None


def optional_port(value: str) -> int | None:
    return whole(0, 65535)(value)


def switch(value: str) -> bool:
    return one_of("on", "off")(value) == "on"


def brokers(value: str) -> tuple[str, ...]:
    found = items(value)
    for broker in found:
        host, _, port = broker.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("host:port, several separated by commas")
    if not found:
        raise ValueError("at least one host:port")
    return found


def address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("host:port")
    return value


def topic_prefix(value: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in value) or len(value) > 200:
        raise ValueError("letters, digits, '.', '_' and '-'; empty for bare topic names")
    return value.strip(".")


def secret_key(value: str) -> str:
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"at least {MIN_SECRET_BYTES} bytes")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(value)
    except InvalidKeyError:
        raise ValueError("a shared secret, not a public key, certificate or JWK") from None
    return value


def public_key(value: str) -> str:
    try:
        key = load_pem_public_key(value.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a PEM public key (-----BEGIN PUBLIC KEY-----)") from None
    is_p256 = isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    if not is_p256 and not isinstance(key, RSAPublicKey):
        raise ValueError("an RSA key for RS256, or one of the curve P-256 for ES256")
    return value.strip()


def https_url(value: str) -> str:
    if urlsplit(value).scheme != "https" or not urlsplit(value).hostname:
        raise ValueError("an https:// URL")
    return value


def base_url(value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("an http:// or https:// URL")
    return value.rstrip("/")


def plain_url(value: str) -> str:
    """As `base_url`, but without what is secret or cannot be followed by a path."""
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("an http:// or https:// URL without user, password, ? and #")
    return base_url(value)


def path_part(value: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "_-") for c in value):
        raise ValueError("letters, digits, '_' and '-'")
    return value


def otlp_endpoint(value: str) -> str:
    """Only where the packages are there: they are no part of requirements.txt."""
    found = base_url(value)
    try:
        is_there = find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise ValueError("the packages of requirements-otel.lock to be installed")
    return found


def origins(value: str) -> tuple[str, ...]:
    found = items(value)
    for origin in found:
        parts = urlsplit(origin)
        if origin != "*" and (f"{parts.scheme}://{parts.netloc}" != origin or not parts.hostname):
            raise ValueError("scheme://host[:port], several separated by commas, or *")
    return found


def some_origins(value: str) -> tuple[str, ...]:
    """As `origins`, but each by its name."""
    found = origins(value)
    if "*" in found:
        raise ValueError("scheme://host[:port], several separated by commas; * is not allowed here")
    return found
