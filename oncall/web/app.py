"""The pages over HTTP: each request reads everything again, nothing is written, and no other site can read them."""

import copy
import re
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

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
from oncall.local.run_store import LocalRunStore
from oncall.run_store import LATEST
from oncall.web import home_page, rendering
from oncall.web.artifact_page import read_artifact_page
from oncall.web.compare_page import find_side, list_choices, read_comparison
from oncall.web.options import PageOptions
from oncall.web.run_filter import FIELDS, RunFilter
from oncall.web.run_index import RunIndex
from oncall.web.run_page import read_live, read_run_page
from oncall.web.sections import Section, read_section
from oncall.web.trends_page import read_trends
from oncall.web.versions_page import read_versions
from pipeline.config.monitoring import DEFAULT_SINCE
from pipeline.run.records import RunState
from schemas.slices import OVERALL

# A request to another host name may be sent by a page of another site, which would read the response:
# https://en.wikipedia.org/wiki/DNS_rebinding
HOSTS = ("127.0.0.1", "localhost")
_NUMBER = re.compile(r"[0-9]{1,9}")
_MESSAGES = {404: "this page does not exist", 405: "these pages can only be read"}


def create_application(store: LocalRunStore, options: PageOptions) -> ASGIApp:
    """Return the pages of one run root.

    Args:
      store: runs of the run root.
      options: options of the command.
    """
    pages = _Pages(store, options)
    routes = [
        Route("/", pages.show_home),
        Route("/runs/{name:path}", pages.show_run),
        Route("/live/{name:path}", pages.show_live),
        Route("/rows", pages.show_rows),
        Route("/artifacts/{name:path}", pages.show_artifact),
        Route("/versions", pages.show_versions),
        Route("/compare", pages.show_comparison),
        Route("/trends", pages.show_trends),
        Route("/drift", pages.show_drift),
        Route("/outcomes", pages.show_outcomes),
        Route("/traffic", pages.show_traffic),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS], www_redirect=False)
    handlers = dict.fromkeys((PipelineError, HTTPException, Exception), pages.show_error)
    # Around all of it, so that the response to an unexpected exception has the headers, too.
    return _Headers(Starlette(routes=routes, middleware=[trusted], exception_handlers=handlers))


class _Pages:
    """One method for each page; starlette runs them in threads, for they wait for files."""

    def __init__(self, store: LocalRunStore, options: PageOptions) -> None:
        self._store, self._options = store, options
        self._index = RunIndex()

    def _render(
        self, template: str, code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> Response:
        page = rendering.render(template, root=self._store.root.path, server_url=self._options.url or "", **values)
        return HTMLResponse(page, code, headers)

    def show_home(self, request: Request) -> Response:
        store = copy_without_cache(self._store)
        query = request.query_params
        try:
            selection, problem = RunFilter.parse(query), ""
        except ConfigError as error:
            selection, problem = RunFilter(), str(error)
        return self._render(
            "home.html.j2",
            name=home_page.get_pipeline(store),
            checks=home_page.read_checks(store, self._options),
            registry=home_page.read_registry(store, self._options),
            runs=Section(problem=problem)
            if problem
            else home_page.read_runs(store, self._index, selection, _parse_page(query)),
            fields={name: query.get(name, "") for name in FIELDS},
            query=urlencode(selection.values),
            states=list(RunState),
        )

    def show_run(self, request: Request) -> Response:
        store = copy_without_cache(self._store)
        return self._render("run.html.j2", view=read_run_page(store, request.path_params["name"]))

    def show_live(self, request: Request) -> Response:
        """Return the part of an active run's page that refreshes itself."""
        store = copy_without_cache(self._store)
        return self._render("live_page.html.j2", live=read_live(store, store.find_run(request.path_params["name"])))

    def show_rows(self, request: Request) -> Response:
        # Pydantic's models of the whole config, which no other page needs.
        from oncall.web.slice_rows import read_slice_rows

        store = copy_without_cache(self._store)
        query = request.query_params
        run, slice_name = query.get("run", LATEST), query.get("slice", OVERALL)
        rows = read_section(lambda: read_slice_rows(store, run, slice_name))
        return self._render("rows.html.j2", run_name=run, slice_name=slice_name, rows=rows)

    def show_artifact(self, request: Request) -> Response:
        store = copy_without_cache(self._store)
        view = read_artifact_page(store, request.path_params["name"], self._options)
        return self._render("artifact.html.j2", view=view)

    def show_versions(self, request: Request) -> Response:
        store = copy_without_cache(self._store)
        versions = read_section(lambda: read_versions(store, self._options))
        return self._render("versions.html.j2", name=home_page.get_pipeline(store), versions=versions)

    def show_comparison(self, request: Request) -> Response:
        """Return two runs side by side; without names, the form that asks for them."""
        store = copy_without_cache(self._store)
        names = [request.query_params.get(name, "").strip() for name in ("a", "b")]
        comparison = Section()
        if all(names):
            comparison = read_section(
                lambda: read_comparison(store, *(find_side(store, self._options, name) for name in names))
            )
        choices = read_section(lambda: list_choices(store, self._options))
        return self._render("compare.html.j2", names=names, comparison=comparison, choices=choices)

    def show_trends(self, request: Request) -> Response:
        store = copy_without_cache(self._store)
        slice_name = request.query_params.get("slice", OVERALL)
        trends = read_section(lambda: read_trends(store, self._options, slice_name))
        return self._render("trends.html.j2", name=home_page.get_pipeline(store), trends=trends)

    def show_drift(self, request: Request) -> Response:
        # Numpy and TFDV's extension, which no other page needs.
        from oncall.web.drift_page import read_drift

        store = copy_without_cache(self._store)
        drift = read_section(lambda: read_drift(store))
        return self._render("drift.html.j2", name=home_page.get_pipeline(store), drift=drift)

    def show_outcomes(self, request: Request) -> Response:
        # NumPy, SciPy and Arrow, which no other page needs.
        from oncall.web.outcomes_page import read_outcomes_page

        store = copy_without_cache(self._store)
        outcomes = read_section(lambda: read_outcomes_page(store, self._options))
        return self._render("outcomes.html.j2", name=home_page.get_pipeline(store), outcomes=outcomes)

    def show_traffic(self, request: Request) -> Response:
        """Return live traffic beside the training data."""
        # Numpy and TFDV's extension, which no other page needs.
        from oncall.web.traffic_page import parse_version, read_traffic_page

        store = copy_without_cache(self._store)
        fields = {name: request.query_params.get(name, "").strip() for name in ("since", "version")}
        since = fields["since"] or DEFAULT_SINCE
        traffic = read_section(
            lambda: read_traffic_page(store, self._options, since=since, version=parse_version(fields["version"]))
        )
        name = home_page.get_pipeline(store)
        return self._render("traffic.html.j2", name=name, traffic=traffic, since=since, version=fields["version"])

    def show_error(self, request: Request, error: Exception) -> Response:
        """Return the page of an error, headed by the phrase of its HTTP status."""
        headers = None
        if isinstance(error, HTTPException):
            code, headers = error.status_code, error.headers
            message = _MESSAGES.get(code, error.detail)
        elif isinstance(error, PipelineError):
            code, message = 404 if isinstance(error, ConfigError) else 503, str(error)
        else:
            code, message = 500, f"a mistake of this tool: {error!r}"
        return self._render("error.html.j2", code, headers, heading=HTTPStatus(code).phrase, message=message)


def copy_without_cache(store: LocalRunStore) -> LocalRunStore:
    """Return the same run root without cached values: a page shows the current files."""
    copied = copy.copy(store)
    copied.__dict__ = {
        name: value
        for name, value in store.__dict__.items()
        if not isinstance(getattr(type(store), name, None), cached_property)
    }
    copied.damaged_records = {}
    return copied


def _parse_page(query: Mapping[str, str]) -> int:
    text = query.get("page", "1")
    return max(int(text), 1) if _NUMBER.fullmatch(text) else 1


class _Headers:
    """Adds the same headers to every response, errors among them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": f"{rendering.get_policy()}; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
