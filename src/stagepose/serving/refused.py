"""A refused request and its answer: one line that names the problem, the value and the fix."""

from __future__ import annotations

from starlette.responses import JSONResponse

RETRY_AFTER = "1"  # seconds


class RefusedError(Exception):
    """``retry``: the same request may succeed in a second; ``close``: the connection is closed afterwards."""

    def __init__(self, status: int, text: str, *, retry: bool = False, close: bool = False) -> None:
        super().__init__(text)
        self.status, self.retry, self.close = status, retry, close

    def response(self) -> JSONResponse:
        headers = {"retry-after": RETRY_AFTER} if self.retry else {}
        return error_response(self.status, str(self), headers | ({"connection": "close"} if self.close else {}))


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


def busy(why: str) -> RefusedError:
    return RefusedError(503, f"the server is busy: {why}; try again in a second", retry=True)
