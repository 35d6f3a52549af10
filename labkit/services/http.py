"""What the lab's HTTP servers refuse: bodies that are too large, and clients that are too slow."""

import asyncio
from collections import deque

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

SLOW_SECONDS = 10.0


class PatientProtocol(H11Protocol):
    """Closes a connection whose request line and headers are not there within ten seconds.

    So too when the answer came before the end of the body, which still trickles in. uvicorn
    itself limits only the silence between two requests.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_the_clock()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_the_clock()

    def _watch_the_clock(self) -> None:
        state = self.conn.their_state
        answered = state is h11.SEND_BODY and self.cycle.response_complete
        if state is not h11.IDLE and not answered:
            self._stop_the_clock()
        elif not self._deadline:
            self._deadline = self.loop.call_later(SLOW_SECONDS, self.transport.close)

    def _stop_the_clock(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None


class Bounded:
    """Reads the whole body before the application sees the request, or answers 413 or 408."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                messages = await self._read(scope, receive)
        except TimeoutError:
            return await _refuse(408, f"No whole body within {SLOW_SECONDS:g} s.", scope, send)
        if messages is None:
            size = f"{self.largest / 2**20:g} MiB"
            return await _refuse(413, f"More than {size} at once.", scope, send)

        async def again() -> Message:
            return messages.popleft() if messages else await receive()

        await self.app(scope, again, send)

    async def _read(self, scope: Scope, receive: Receive) -> deque[Message] | None:
        """None when it is too large, which a length in the headers says at once."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        messages: deque[Message] = deque()
        size, more = int(announced) if announced.isdigit() else 0, True
        left = self.largest
        while more and size <= self.largest and left >= 0:
            messages.append(await receive())
            left -= len(messages[-1].get("body", b""))
            more = messages[-1].get("more_body", False)
        return None if size > self.largest or left < 0 else messages


async def _refuse(status: int, detail: str, scope: Scope, send: Send) -> None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    headers = {"connection": "close"}  # the rest of the body must not be taken for a request
    await JSONResponse({"detail": detail}, status, headers)(scope, nothing, send)
