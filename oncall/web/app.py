"""The pages over HTTP: each request reads everything again, nothing is written, and no other site can read along."""

import copy
import re
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cli.errors import ConfigError, PipelineError
from oncall import releases
from oncall.evidence import Evidence
from oncall.web import artifact, pages, run, start
from oncall.web.sections import section
from oncall.web.start import Place

# A request that comes by another name may be sent by a page of another site, which would read the answer:
# https://en.wikipedia.org/wiki/DNS_rebinding
HOSTS = ("127.0.0.1", "localhost")
_NUMBER = re.compile(r"[0-9]{1,9}")


def application(evidence: Evidence, place: Place) -> ASGIApp:
    """Return the pages of one run root.

    Args:
      evidence: evidence of the run root.
      place: place of the registry and of a model server.
    """
    show = _Pages(evidence, place)
    routes = [
        Route("/", show.start),
        Route("/runs/{name:path}", show.run),
        Route("/artifacts/{name:path}", show.artifact),
        Route("/versions", show.versions),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS], www_redirect=False)
    handlers = {HTTPException: show.refused, Exception: show.refused}
    # Around all of it: the answer to a mistake of ours has the headers, too.
    return _Headers(Starlette(routes=routes, middleware=[trusted], exception_handlers=handlers))


class _Pages:
    """One method for each page; starlette runs them in threads, for they wait for files."""

    def __init__(self, evidence: Evidence, place: Place) -> None:
        self._evidence, self._place = evidence, place

    def _page(self, template: str, evidence: Evidence, code: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.render(template, root=evidence.root.path, **values), code)

    def start(self, request: Request) -> Response:
        evidence = fresh(self._evidence)
        return self._page(
            "start.html.j2",
            evidence,
            name=start.name_of(evidence),
            checks=start.checked(evidence, self._place),
            served=start.served(evidence, self._place),
            runs=start.runs_page(evidence, _page_number(request.query_params)),
        )

    def run(self, request: Request) -> Response:
        evidence = fresh(self._evidence)
        try:
            view = run.view(evidence, request.path_params["name"])
        except PipelineError as error:
            return self._sorry(evidence, error)
        return self._page("run.html.j2", evidence, view=view)

    def artifact(self, request: Request) -> Response:
        evidence = fresh(self._evidence)
        try:
            view = artifact.view(evidence, request.path_params["name"], self._place)
        except PipelineError as error:
            return self._sorry(evidence, error)
        return self._page("artifact.html.j2", evidence, view=view)

    def versions(self, request: Request) -> Response:
        evidence = fresh(self._evidence)
        found = section(lambda: releases.serving(evidence, self._place.registry, self._place.model))
        return self._page("versions.html.j2", evidence, name=start.name_of(evidence), versions=found)

    def _sorry(self, evidence: Evidence, error: PipelineError) -> Response:
        code = 404 if isinstance(error, ConfigError) else 503
        return self._page("sorry.html.j2", evidence, code, heading=_heading(code), said=str(error))

    def refused(self, request: Request, error: Exception) -> Response:
        code, headers = 500, None
        if isinstance(error, HTTPException):
            code, headers = error.status_code, error.headers
        known = {404: "there is no such page", 405: "these pages can only be read"}
        said = known.get(code, f"a mistake of this tool: {error!r}")
        page = pages.render("sorry.html.j2", root=self._evidence.root.path, heading=_heading(code), said=said)
        return HTMLResponse(page, code, headers)


def _heading(code: int) -> str:
    """Return the words of an HTTP status; nothing but codes of this module and of Starlette comes here."""
    return HTTPStatus(code).phrase


def fresh(evidence: Evidence) -> Evidence:
    """Return the same run root, with nothing kept of what was read: pages are to show what is there now."""
    found = copy.copy(evidence)
    found.__dict__ = {
        name: value
        for name, value in evidence.__dict__.items()
        if not isinstance(getattr(type(evidence), name, None), cached_property)
    }
    found.damaged = {}
    return found


def _page_number(query: Mapping[str, str]) -> int:
    text = query.get("page", "1")
    return max(int(text), 1) if _NUMBER.fullmatch(text) else 1


class _Headers:
    """Puts the same headers on every answer, refusals among them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": f"{pages.policy()}; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
