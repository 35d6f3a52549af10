"""The payload codec: what leaves this process for the Temporal server is ciphertext."""

import dataclasses
import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from labkit.settings import LabError, settings

ENCODING = b"binary/encrypted"


class EncryptionCodec(PayloadCodec):
    """Fernet, with the id of the key in the payload's metadata.

    The first key encrypts, all of them decrypt. Without ``encrypt`` payloads are written in
    clear, and encrypted ones are still read: switching back loses nothing.

    Raises:
        LabError: there is nothing to encrypt with.
        ValueError: a key is malformed.
    """

    def __init__(self, keys: Sequence[str], encrypt: bool) -> None:
        if encrypt and not keys:
            raise LabError("TEMPORAL_ENCRYPTION_KEY is empty in .env, so nothing can be encrypted.")
        self._keys = [key.encode() for key in keys]
        # Without a key, a random one reads nothing and so names the key that is missing.
        self._fernet = MultiFernet([Fernet(key) for key in self._keys or [Fernet.generate_key()]])
        self._encrypt = encrypt

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if not self._encrypt:
            return list(payloads)
        metadata = {"encoding": ENCODING, "encryption-key-id": key_id(self._keys[0])}
        return [
            Payload(metadata=metadata, data=self._fernet.encrypt(payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        try:
            return Payload.FromString(self._fernet.decrypt(payload.data))
        except InvalidToken:
            wrote = payload.metadata.get("encryption-key-id", b"?").decode(errors="replace")
            have = ", ".join(key_id(key).decode() for key in self._keys) or "no key"
            raise LabError(
                f"A payload was encrypted with key {wrote} and cannot be read with {have}, or it "
                f"was changed since. Put that key into TEMPORAL_ENCRYPTION_KEY, after a comma."
            ) from None


def key_id(key: bytes) -> bytes:
    """Eight hex digits that tell keys apart and say nothing about them."""
    return hashlib.sha256(b"labkit key id:" + key).hexdigest()[:8].encode()


def data_converter(encrypted: bool) -> DataConverter:
    """The data converter of a plain or an encrypted client.

    Raises:
        LabError: encryption was asked for and there is no key, or a key is malformed.
            Nothing is written in clear instead.
    """
    text = settings().temporal_encryption_key.get_secret_value()
    keys = [key.strip() for key in text.split(",") if key.strip()]
    try:
        codec = EncryptionCodec(keys, encrypt=encrypted)
    except ValueError:
        raise LabError(
            "TEMPORAL_ENCRYPTION_KEY holds something that is not a Fernet key (44 characters, "
            "base64). Make one with: python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'"
        ) from None
    failures = (
        DefaultFailureConverterWithEncodedAttributes if encrypted else DefaultFailureConverter
    )
    return dataclasses.replace(
        DataConverter.default, payload_codec=codec, failure_converter_class=failures
    )
