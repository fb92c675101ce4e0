"""dev.tokens: what the identity service would have signed."""

import os
import subprocess
from datetime import timedelta
from uuid import UUID, uuid4

import jwt
import pytest

from dev.tokens import access_token
from tests.programs import run_program

SECRET = "s" * 32


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name != "JWT_SECRET"}
    return run_program("-m", "dev.tokens", *arguments, environ={**outside, **environ})


def test_a_token_has_the_platforms_claims_and_lives_15_minutes() -> None:
    user = uuid4()
    claims = jwt.decode(access_token(SECRET, user, "owner"), SECRET, algorithms=["HS256"])
    assert claims["sub"] == claims["user_id"] == str(user)
    assert (claims["role"], claims["token_type"]) == ("owner", "access")
    assert claims["iss"] == "kilat-pet-runner"
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert str(UUID(claims["jti"])) == claims["jti"]
    assert "@" in claims["email"]
    assert "aud" not in claims


def test_claims_can_be_replaced_and_left_out() -> None:
    token = access_token(SECRET, uuid4(), "owner", token_type="refresh", jti=None)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["token_type"] == "refresh"
    assert "jti" not in claims


def test_a_token_may_be_over_already() -> None:
    token = access_token(SECRET, uuid4(), "owner", lifetime=timedelta(seconds=-1))
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, SECRET, algorithms=["HS256"])


def test_the_command_prints_a_token_and_nothing_else() -> None:
    user = str(uuid4())
    done = run("--user", user, "--role", "runner", "--minutes", "60", JWT_SECRET=SECRET)
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["role"]) == (user, "runner")
    assert claims["exp"] - claims["iat"] == 60 * 60


def test_the_command_without_a_secret_says_so_and_exits_2() -> None:
    done = run("--role", "admin")
    assert (done.returncode, done.stdout) == (2, "")
    assert "JWT_SECRET" in done.stderr
