"""Check a receipt of a trip: offline, without the service. `--help` explains."""

import argparse
import json
import sys
from collections.abc import Mapping
from email.message import Message
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

EXIT_WRONG = 1
EXIT_USAGE = 2
TYPE = "trip-receipt+jwt"
ALGORITHM = "EdDSA"
MOST_BYTES = 1 << 20
TIMEOUT_S = 10
EXAMPLES = """
examples:
  python verify_receipt.py BK-1.receipt.jws --jwks https://tracking.example.com/.well-known/jwks.json
  python verify_receipt.py BK-1.receipt.jws --jwks jwks.json --csv BK-1.csv

BK-1.csv is `export.csv?canonical=1` of the same trip. Exit status: 0 the receipt is genuine (and
the CSV is the route that it names), 1 it is not, 2 wrong usage, or something could not be read.
"""


class Wrong(Exception):
    """The receipt is not genuine, or not of this CSV."""


def main() -> int:
    """The exit status."""
    arguments = _parser().parse_args()
    try:
        token = _text(arguments.receipt)
        claims = verified(token, _keys(arguments.jwks))
        print("The signature is genuine. The platform says:")
        for name, value in claims.items():
            print(f"  {name}: {value}")
        if arguments.csv is not None:
            check_route(claims, arguments.csv)
            print(f"{arguments.csv} is the route of this receipt.")
    except Wrong as error:
        print(f"NOT VALID: {error}", file=sys.stderr)
        return EXIT_WRONG
    except (OSError, ValueError, jwt.PyJWKError, jwt.InvalidKeyError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Checks that a receipt was signed by one of these keys, and that a CSV is the"
        " route that it names. It does not tell whether the phone told the truth.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("receipt", help="file with the receipt; - for standard input")
    parser.add_argument("--jwks", required=True, metavar="FILE|URL", help="the platform's keys")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the canonical CSV of the route")
    return parser


def _text(path: str) -> str:
    return (sys.stdin.read() if path == "-" else Path(path).read_text()).strip()


def _keys(place: str) -> dict[str, jwt.PyJWK]:
    """By their ids; only those that can have signed a receipt."""
    if urlsplit(place).scheme in ("http", "https"):
        _check_safe(place)
        with build_opener(_SafeRedirects).open(place, timeout=TIMEOUT_S) as answer:
            text = answer.read(MOST_BYTES)
    else:
        text = Path(place).read_bytes()
    found = json.loads(text)
    members = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(members, list):
        raise ValueError(f"{place} is no JWKS")
    return {each["kid"]: jwt.PyJWK(each, ALGORITHM) for each in members if _signs(each)}


def _check_safe(url: str, before: str = "") -> None:
    """Whoever is on the way could put in keys of his own."""
    parts = urlsplit(url)
    is_here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    was_safe = urlsplit(before).scheme == "https"
    if parts.scheme != "https" and (was_safe or not is_here):
        raise ValueError(f"{url}: keys have to come over https")


class _SafeRedirects(HTTPRedirectHandler):
    """Each step as safe as the first one, and none from https to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        _check_safe(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _signs(key: Any) -> bool:
    wanted = {"kty": "OKP", "crv": "Ed25519"}
    return isinstance(key, dict) and "kid" in key and wanted.items() <= key.items()


def verified(token: str, keys: Mapping[str, jwt.PyJWK]) -> dict[str, Any]:
    """What it says; raises Wrong."""
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise Wrong("this is no receipt") from None
    if header.get("typ") != TYPE or header.get("alg") != ALGORITHM:
        raise Wrong("this is no receipt of a trip")
    key = keys.get(str(header.get("kid")))
    if key is None:
        raise Wrong(f"none of the keys has the id {header.get('kid')}")
    try:
        claims: dict[str, Any] = jwt.decode(
            token, key, [ALGORITHM], options={"verify_aud": False, "verify_iat": False}
        )
    except jwt.InvalidTokenError:
        raise Wrong("the signature is not genuine: it was changed, or signed by another") from None
    return claims


def check_route(claims: Mapping[str, Any], path: Path) -> None:
    """Raises Wrong."""
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != claims.get("route_sha256"):
        raise Wrong(f"{path} is not the route of this receipt: its SHA-256 is {found}")


if __name__ == "__main__":
    sys.exit(main())
