from collections.abc import Sequence

from cryptography.fernet import Fernet
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec


class Codec(PayloadCodec):
    """Hides whole payloads. Those that were stored in plain text are still read."""

    def __init__(self, key: bytes) -> None:
        self.fernet = Fernet(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]: ...

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]: ...
