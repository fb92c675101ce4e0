"""tracking.setting_values: what a variable may hold, told when the server starts."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.keys import private_pem, public_pem
from tracking.errors import SettingsError
from tracking.settings import Settings

EC_KEY = ec.generate_private_key(ec.SECP384R1())
USELESS = {
    "cut": {"JWT_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"},
    "private": {"JWT_PUBLIC_KEY": private_pem(EC_KEY)},
    "another curve": {"JWT_PUBLIC_KEY": public_pem(EC_KEY.public_key())},
    "another kind": {
        "JWT_PUBLIC_KEY": public_pem(ed25519.Ed25519PrivateKey.generate().public_key())
    },
    "public as secret": {"JWT_SECRET": public_pem(EC_KEY.public_key())},
    "JWK as secret": {"JWT_SECRET": '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}'},
}


@pytest.mark.parametrize("environ", USELESS.values(), ids=list(USELESS))
@pytest.mark.parametrize("from_file", [False, True])
def test_a_key_that_verifies_nothing_is_told_at_the_start_and_not_shown(
    environ: dict[str, str], tmp_path: Path, from_file: bool
) -> None:
    ((name, key),) = environ.items()
    if from_file:
        path = tmp_path / "key"
        path.write_text(key)
        environ = {f"{name}_FILE": str(path)}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    size = len(key.strip() if from_file else key)
    assert str(caught.value).startswith(f"{name}: found {size} bytes, expected ")
    assert key.splitlines()[-1] not in str(caught.value)
