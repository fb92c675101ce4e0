"""Settings of receipts: with which key they are signed."""

from dataclasses import dataclass

from tracking.environment import EnvironmentSettings, variable
from tracking.receipts import public_keys, signing_key


@dataclass(frozen=True, kw_only=True)
class ReceiptSettings(EnvironmentSettings):
    """Without a key there are no receipts."""

    receipt_key: str = variable(
        "", signing_key, "PEM private key (Ed25519) that signs receipts of trips", secret=True
    )
    receipt_old_keys: str = variable(
        "", public_keys, "PEM public keys of receipts that were signed before", secret=True
    )
