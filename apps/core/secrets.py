"""Secrets at rest: encrypted under a key derived from the installation's secret key."""

import base64
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class SecretUnreadable(Exception):
    """The message says how to mend it."""


@lru_cache(maxsize=4)
def _cipher(secret_key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"agent-gateway secrets at rest")
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret_key.encode())))


def encrypt(plaintext: str) -> str:
    return _cipher(settings.SECRET_KEY).encrypt(plaintext.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Raises SecretUnreadable when the installation's secret key is not the one it was encrypted under."""
    try:
        return _cipher(settings.SECRET_KEY).decrypt(ciphertext.encode()).decode()
    except InvalidToken as error:
        raise SecretUnreadable(
            "A stored secret cannot be read: it was encrypted under another secret key. "
            "Restore the file `secret_key` of the data folder (or GATEWAY_SECRET_KEY), or enter the secret again."
        ) from error


def encrypt_json(value: Any) -> str:
    return encrypt(json.dumps(value))


def decrypt_json(ciphertext: str) -> Any:
    """Raises SecretUnreadable."""
    return json.loads(decrypt(ciphertext))
