"""Access tokens for development and tests, as the identity service makes them.

`python -m dev.tokens --user UUID --role owner` prints one, signed with JWT_SECRET.
"""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt

LIFETIME = timedelta(minutes=15)


def access_token(
    secret: str, user_id: UUID, role: str, /, *, lifetime: timedelta = LIFETIME, **overrides: Any
) -> str:
    """HS256. `overrides` replace claims; one that is None is left out."""
    now = datetime.now(UTC)
    claims = {
        "sub": str(user_id),
        "user_id": str(user_id),
        "email": "somebody@example.com",
        "role": role,
        "token_type": "access",
        "jti": str(uuid4()),
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
        "iss": "kilat-pet-runner",
        **overrides,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm="HS256")


def main() -> int:
    """The exit status; the token goes to standard output."""
    parser = argparse.ArgumentParser(description="Print an access token for development.")
    parser.add_argument("--user", type=UUID, default=uuid4(), help="user id; default: a new one")
    parser.add_argument("--role", choices=("owner", "runner", "admin", "shop"), default="owner")
    parser.add_argument("--minutes", type=float, default=15, help="lifetime [15]")
    arguments = parser.parse_args()
    secret = os.environ.get("JWT_SECRET")
    if not secret:
        print("JWT_SECRET is not set; try `set -a; . .dev/env`", file=sys.stderr)
        return 2
    lifetime = timedelta(minutes=arguments.minutes)
    print(access_token(secret, arguments.user, arguments.role, lifetime=lifetime))
    return 0


if __name__ == "__main__":
    sys.exit(main())
