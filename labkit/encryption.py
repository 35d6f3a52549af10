"""The payload codec: what leaves this process for the Temporal server is ciphertext."""

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
)

from labkit.core.envfile import write_env
from labkit.core.settings import LabError, settings, source_of

ENCODING = b"binary/encrypted"


class EncryptionCodec(PayloadCodec):
    """Fernet, with the id of the key in the payload's metadata.

    The first key encrypts, all of them decrypt. Without ``encrypt`` payloads are written in
    clear, and encrypted ones are still read: switching back loses nothing.

    Args:
        keys: what encrypts and decrypts as long as this codec lives.
        encrypt: write ciphertext only.
        source: asked for newer keys when a payload cannot be read: a key that was rotated in
            elsewhere is known at once, and nothing is restarted.

    Raises:
        LabError: there is nothing to encrypt with, or a key is malformed.
    """

    def __init__(
        self,
        keys: Sequence[str],
        encrypt: bool,
        source: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        if encrypt and not keys:
            raise LabError("TEMPORAL_ENCRYPTION_KEY is empty, so nothing can be encrypted.")
        self._ring = _ring(keys)
        self.encrypts, self._source = encrypt, source

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if not self.encrypts:
            return list(payloads)
        id, key = next(iter(self._ring.items()))
        metadata = {"encoding": ENCODING, "encryption-key-id": id.encode()}
        return [
            Payload(metadata=metadata, data=key.encrypt(payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        wrote = payload.metadata.get("encryption-key-id", b"?").decode(errors="replace")
        if wrote not in self._ring and self._source:
            self._ring |= _ring(self._source())  # the first stays the first
        # Without a key, a random one reads nothing and so names the key that is missing.
        keys = list(self._ring.values()) or [Fernet(Fernet.generate_key())]
        try:
            return Payload.FromString(MultiFernet(keys).decrypt(payload.data))
        except InvalidToken:
            raise LabError(
                f"A payload was encrypted with key {wrote} and cannot be read with "
                f"{', '.join(self._ring) or 'no key'}, or it was changed since. "
                f"Put that key into TEMPORAL_ENCRYPTION_KEY, after a comma."
            ) from None


def key_id(key: bytes) -> bytes:
    """Eight hex digits that tell keys apart and say nothing about them."""
    return hashlib.sha256(b"labkit key id:" + key).hexdigest()[:8].encode()


def _ring(keys: Sequence[str]) -> dict[str, Fernet]:
    """Keys by their ids, in order.

    Raises:
        LabError: one is malformed. The message does not hold it.
    """
    if not all(map(_is_key, keys)):
        raise LabError(
            "TEMPORAL_ENCRYPTION_KEY holds something that is not a Fernet key (44 characters, "
            "base64), or not a comma between two. Make one with: python -c 'from "
            "cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
        )
    return {key_id(key.encode()).decode(): Fernet(key) for key in keys}


def _is_key(text: str) -> bool:
    """Fernet itself passes over what is not base64, and over a second key after the first."""
    try:
        return len(base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)) == 32
    except ValueError:
        return False


def key_source() -> list[str]:
    """The keys, the one that encrypts first: the one function where a KMS or a vault plugs in."""
    text = settings().temporal_encryption_key.get_secret_value()
    return [key.strip() for key in text.split(",")] if text.strip() else []


def key_ids() -> list[str]:
    """The ids of the keys, the one that encrypts first. They may be shown to anybody."""
    return list(_ring(key_source()))


def rotate_key() -> str:
    """Put a new key before the others, in ``.env``: it encrypts, and all of them still decrypt.

    Whoever has a codec reads what the new key wrote at once, and writes with it from the next
    start of its worker on.

    Returns:
        The new key's id.

    Raises:
        LabError: the keys do not come from ``.env``, so that what is written there has no effect.
    """
    keys = [Fernet.generate_key().decode(), *key_source()]
    _ring(keys)  # complains of the old ones before anything is written
    _write_keys(",".join(keys))
    return key_ids()[0]


def _write_keys(keys: str) -> None:
    if (source := source_of("TEMPORAL_ENCRYPTION_KEY")) != ".env":
        raise LabError(f"The keys come from {source}, not from .env. Rotate after it, or there.")
    write_env(TEMPORAL_ENCRYPTION_KEY=keys)


def keys_without(id: str) -> str:
    """What ``.env`` would hold without a key. Handle it like a password.

    Raises:
        LabError: there is no such key, or it is the one that encrypts.
    """
    ids = key_ids()
    if id not in ids[1:]:
        why = "encrypts: rotate first" if id in ids else "is not there"
        raise LabError(f"Key {id} {why}. The keys are {', '.join(ids) or 'none'}.")
    return ",".join(key for key in key_source() if key_id(key.encode()).decode() != id)


def retire_key(id: str) -> None:
    """Delete a key from ``.env``. What it encrypted can never be read again, without a copy of it.

    Raises:
        LabError: there is no such key, or it is the one that encrypts, or the keys do not come
            from ``.env``.
    """
    _write_keys(keys_without(id))


async def is_encrypted(client: Client, id: str) -> bool:
    """True when a run was started with encryption: what is added to it should be, too."""
    async for event in client.get_workflow_handle(id).fetch_history_events(page_size=1):
        payloads = event.workflow_execution_started_event_attributes.input.payloads
        return any(payload.metadata.get("encoding") == ENCODING for payload in payloads)
    return False


def data_converter(encrypted: bool) -> DataConverter:
    """The data converter of a plain or an encrypted client.

    Raises:
        LabError: encryption was asked for and there is no key, or a key is malformed.
            Nothing is written in clear instead.
    """
    codec = EncryptionCodec(key_source(), encrypted, key_source)
    failures = (
        DefaultFailureConverterWithEncodedAttributes if encrypted else DefaultFailureConverter
    )
    return dataclasses.replace(
        DataConverter.default, payload_codec=codec, failure_converter_class=failures
    )
