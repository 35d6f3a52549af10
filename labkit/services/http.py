"""A bound on what the lab's HTTP servers read."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Bounded:
    """Answers 413 to a body that is too large: at once where its length is announced."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.largest = app, largest
        self.detail = f"More than {largest / 2**20:g} MiB at once."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self.largest
        announced = dict(scope.get("headers", ())).get(b"content-length", b"")

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self.detail, CLOSE)
            return message

        if announced.isdigit() and int(announced) > self.largest:
            await JSONResponse({"detail": self.detail}, 413, CLOSE)(scope, receive, send)
        else:
            await self.app(scope, bounded, send)


# The rest of the body must not be taken for a request.
CLOSE = {"connection": "close"}
