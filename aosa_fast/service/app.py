"""The service as an ASGI application: its routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from aosa_fast.service.access import Access
from aosa_fast.service.answers import json_bytes
from aosa_fast.service.errors import RequestError
from aosa_fast.service.gate import GONE, App, Gate, error_headers
from aosa_fast.service.places import GoneError, Receive, Send
from aosa_fast.service.work import Work

_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(work: Work, access: Access, say: Callable[[str], None], *, log: bool = True) -> Gate:
    """The application.

    Args:
        work: what it does.
        access: who may ask.
        say: what to do with a line for whoever runs the service.
        log: whether each request is a line.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.router.routes.append(Route("/explain", _Endpoint(work.explain), methods=["POST"]))
    for path, (file, media) in _PAGE.items():
        app.add_api_route(path, _page(file, media), methods=["GET", "HEAD"])
    _add_facts(app, work)
    app.add_exception_handler(HTTPException, _wrong_address)
    app.add_exception_handler(RequestError, _refusal)
    app.add_exception_handler(GoneError, _nobody)
    app.add_exception_handler(Exception, _bug)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Aosa-Prediction", "X-Aosa-Probability", "X-Aosa-Target", "Retry-After"],
        )
    return Gate(app, access, work.metrics, say, log)


def _add_facts(app: FastAPI, work: Work) -> None:
    """Routes that say how the service is."""

    async def health() -> Response:
        alive = work.engine.alive
        return _json({"status": "alive" if alive else "the model has stopped answering"}, 200 if alive else 503)

    async def ready() -> Response:
        return _json({"status": work.unready or "ready"}, 503 if work.unready else 200)

    async def metrics() -> Response:
        content, media = work.metrics.render()
        return Response(content, headers={"content-type": media})

    async def about() -> Response:
        return _json({**work.engine.description, "limits": asdict(work.limits)})

    for handler in (health, ready, metrics, about):
        app.add_api_route(f"/{handler.__name__}", handler, methods=["GET", "HEAD"])


class _Endpoint:
    """A route that gets what ASGI gives."""

    def __init__(self, handler: App) -> None:
        self._handler = handler

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


def _json(value: object, status: int = 200) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(json_bytes(value), status, headers | ({"retry-after": "1"} if status == 503 else {}))


def _page(file: str, media: str) -> Callable[[], Awaitable[Response]]:
    path = Path(__file__).with_name(file)

    async def show() -> Response:
        headers = {
            "content-type": f"{media}; charset=utf-8",
            "content-security-policy": _POLICY,
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        return Response(path.read_bytes(), headers=headers)

    return show


async def _wrong_address(request: Request, error: Exception) -> Response:
    """What the router refuses."""
    assert isinstance(error, HTTPException)
    known = {404: "there is nothing at this address", 405: f"method must be another one; got {request.method[:20]}"}
    response = _json({"error": known.get(error.status_code, str(error.detail))}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    response = _json({"error": error.reason}, error.status)
    response.headers.update(error_headers(error))
    return response


async def _nobody(*_: object) -> Response:
    return Response(status_code=GONE)


async def _bug(*_: object) -> Response:
    return _json({"error": "internal error"}, 500)
