"""The paths of the API, and the page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from stagepose.draw import Labels
from stagepose.serving import wire
from stagepose.serving.body import Limits, received, require_picture
from stagepose.serving.guard import Guard
from stagepose.serving.pool import Pool
from stagepose.serving.refused import RefusedError, error_response
from stagepose.structures import KeepBy

Responses: TypeAlias = dict[int | str, dict[str, Any]]  # as OpenAPI lists them, by status

PAGE = Path(__file__).with_name("page.html")
BODY = {"requestBody": {"required": True, "content": {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {"schema": {"type": "object", "required": ["image"],
                                       "properties": {"image": {"type": "string", "format": "binary"}}}},
}}}  # fmt: skip
PICTURES: Responses = {200: {"content": {"image/jpeg": {}, "image/png": {}}}}


class Error(BaseModel):
    """One line that names the problem, the value and the fix."""

    error: str


def _errors(of: Mapping[int, str]) -> Responses:
    return {status: {"model": Error, "description": why} for status, why in of.items()}


ANYWHERE = _errors({421: "a Host that is no name of this server", 500: "the server failed; its log says why"})
OF_A_PICTURE = _errors({
    400: "form data that is not exactly one part image", 403: "sent by a page of another origin",
    408: "the body did not arrive in time", 413: "the body is too large", 415: "the Content-Type is not a picture's",
    422: "an invalid option, or a file that is not a complete picture within the limits",
    503: "the server is busy or shutting down, or the worker process died; with Retry-After",
    504: "it took too long",
})  # fmt: skip
NONE_READY: Responses = {503: {"description": "no worker process is ready"}}


class Options(BaseModel):
    """Options of one request, in the query string; by default as the server was started."""

    model_config = ConfigDict(extra="forbid")

    threshold: float | None = Field(None, ge=0, le=1, description="minimum person score")
    flip: bool | None = Field(
        None, description="flip test: average with the mirrored crop (more accurate, twice the time)")
    max_people: int | None = Field(
        None, ge=1, le=100, description="most boxes per photo to run the pose network on, best first")
    keep: int | None = Field(None, ge=1, description="keep at most this many people per photo")
    keep_by: KeepBy | None = Field(
        None, description="which people to keep: the highest-scoring, or those with the largest boxes")


class OverlayOptions(Options):
    """The same, and how the picture is drawn."""

    format: Literal["jpeg", "png"] = "jpeg"
    colours: Literal["side", "person"] = "side"
    labels: Labels = "number"


def make_app(pool: Pool, limits: Limits, hosts: Sequence[str]) -> Guard:
    """``hosts``: names of this server. FastAPI's documentation pages load scripts from elsewhere, so they are off.

    The guard wraps all of FastAPI, whose own middleware would miss the answer to a failure.
    """
    app = FastAPI(title="StagePose", version="1", docs_url=None, redoc_url=None, responses=ANYWHERE)
    _answer_errors(app)
    _add_pages(app, pool, limits)

    @app.post("/v1/predict", openapi_extra=BODY, responses=OF_A_PICTURE)
    async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Every person in a picture, best first: keypoints (x, y, score of each), score and box, in pixels."""
        return _response(await _ask(request, pool, limits, {"options": options.model_dump(exclude_none=True)}))

    @app.post("/v1/overlay", openapi_extra=BODY, responses=PICTURES | OF_A_PICTURE, response_class=Response)
    async def overlay(request: Request, options: Annotated[OverlayOptions, Query()]) -> Response:
        """The picture with its people drawn in; a PNG also if a side is too long for a JPEG."""
        how = {"format": options.format, "colours": options.colours, "labels": options.labels}
        wanted = options.model_dump(exclude_none=True, exclude=set(how))
        return _response(await _ask(request, pool, limits, {"options": wanted, "overlay": how}))

    return Guard(app, hosts)


def _add_pages(app: FastAPI, pool: Pool, limits: Limits) -> None:
    page, policy = _page()

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy})

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """Names of the models, of the keypoints in their order, and of the limbs between them."""
        return {**pool.model, "max_bytes": limits.most}

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """The server is alive."""
        return {"alive": True}

    @app.get("/readyz", responses=NONE_READY)
    async def readyz() -> JSONResponse:
        """A worker process is ready; 503 while none is."""
        state = {"ready": pool.ready > 0, "processes": pool.ready, "busy": pool.busy, "waiting": pool.waiting}
        return JSONResponse(state, 200 if pool.ready else 503)


async def _ask(request: Request, pool: Pool, limits: Limits, head: dict[str, Any]) -> wire.Message:
    """The answer of a worker process. A client that disconnects gives up its place in the queue."""
    head["content_type"] = require_picture(request)
    pool.require_place()  # before the body is sent for nothing
    async with received(request, limits) as body:
        asking = asyncio.ensure_future(pool.ask(head, body))
        leaving = asyncio.ensure_future(request.receive())  # after a body the next that comes is the end
        try:
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise RefusedError(400, "the client has gone", close=True)
            return asking.result()
        finally:
            asking.cancel()
            leaving.cancel()


def _response(answer: wire.Message) -> Response:
    head, body = answer
    return Response(body, head["status"], media_type=head["type"])


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        known = OverlayOptions if request.url.path.endswith("overlay") else Options
        return error_response(422, "; ".join(_wrong(each, known) for each in error.errors()))

    @app.exception_handler(HTTPException)
    async def not_here(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {request.url.path[:80]}: {error.detail.lower()}"
        return error_response(error.status_code, f"{what}; GET /openapi.json lists what there is",
                              dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:  # Starlette logs it
        return error_response(500, "the server failed at this request; its log says why")


def _wrong(error: dict[str, Any], known: type[Options]) -> str:
    name, found = str(error["loc"][-1])[:80], str(error.get("input"))[:80]
    if error["type"] == "extra_forbidden":
        return f"no option {name!r}; there are {', '.join(known.model_fields)}"
    return f"{name} is {found!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _page() -> tuple[str, str]:
    """The page, and a policy that lets it run its own script and style and talk to this server, and nothing else."""
    html = PAGE.read_text(encoding="utf-8")
    digests = {tag: base64.b64encode(hashlib.sha256(_inside(tag, html).encode()).digest()).decode()
               for tag in ("script", "style")}
    policy = (f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
              "img-src blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
              "frame-ancestors 'none'")
    return html, policy


def _inside(tag: str, html: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    assert found, f"page.html has no <{tag}>"
    return found[1]
