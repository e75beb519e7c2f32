"""One small HTTP server for operators: ``/metrics``, ``/healthz``, ``/readyz``.

- ``/healthz``: are the process and its threads alive? What fails here only a restart mends: a liveness probe.
- ``/readyz``: is everything reachable that the process needs? What fails here passes or is somebody else's to mend: a
  readiness probe. A restart would not help.

Both answer with a line for each check, status 200 or 503. The server has no access control, as exporters of
Prometheus have none, and shows no payloads: names of workflows, steps and queues, and numbers.
"""

from __future__ import annotations

import logging
import socketserver
import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from dramaturg_protocol.checks import Checks

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

COORDINATOR_PORT: Final = 9192
WORKER_PORT: Final = 9193

#: All interfaces, as exporters do: who scrapes and probes is elsewhere.
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104
LOOPBACK: Final = "127.0.0.1"

# How far from a default that is taken a free port is looked for.
_PORTS_TO_TRY: Final = 100
_REQUEST_SECONDS: Final = 10.0
_TEXT: Final = "text/plain; charset=utf-8"

_logger = logging.getLogger("dramaturg.health")


class HealthServer:
    """Serves metrics and health in daemon threads.

    Parameters:
      registry: what ``/metrics`` shows.
      health: asked by ``/healthz``.
      readiness: asked by ``/readyz``.
    """

    def __init__(self, registry: CollectorRegistry, *, health: Checks, readiness: Checks) -> None:
        self._app = application(registry, health=health, readiness=readiness)
        self._server: _Server | None = None

    @property
    def port(self) -> int | None:
        """Where it listens; ``None`` while it does not."""
        return None if self._server is None else int(self._server.server_address[1])

    def start(self, wanted: int | None, *, default: int, host: str = EVERYWHERE) -> Self:
        """Listen, by the rules of ``METRICS_PORT``; a port that cannot be had is logged and nothing else.

        Parameters:
          wanted: the port that was set; ``None`` where none was, 0 for no server.
          default: the port where none was set, or else the next free one.
          host: the address to listen on.
        """
        if wanted == 0:
            return self
        ports = [wanted] if wanted is not None else range(default, default + _PORTS_TO_TRY)
        self._server = self._listening(host, ports)
        if self._server is None:
            span = f"port {wanted} is" if wanted is not None else f"ports {ports[0]} to {ports[-1]} are"
            _logger.warning("%s taken: this process serves no /metrics, /healthz and /readyz", span)
            return self
        if wanted is None and self.port != default:
            _logger.warning("port %s is taken: /metrics, /healthz and /readyz are on port %s", default, self.port)
        threading.Thread(target=self._server.serve_forever, name="dramaturg-health", daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _listening(self, host: str, ports: Iterable[int]) -> _Server | None:
        for port in ports:
            try:
                server = _Server((host, port), _Handler)
            except OSError as error:
                _logger.debug("port %s of %s cannot be had: %s", port, host, error)
            else:
                server.set_app(self._app)
                return server
        return None


def application(registry: CollectorRegistry, *, health: Checks, readiness: Checks) -> WSGIApplication:
    """The three paths as a WSGI application, for whoever serves HTTP already."""
    from prometheus_client import make_wsgi_app  # pyright: ignore[reportUnknownVariableType]

    paths: dict[str, WSGIApplication] = {
        "/metrics": make_wsgi_app(registry),
        "/healthz": _answers(health),
        "/readyz": _answers(readiness),
    }

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        serve = paths.get(str(environ.get("PATH_INFO", "")))
        if serve is None:
            return _plain(start_response, HTTPStatus.NOT_FOUND, [*paths])
        return serve(environ, start_response)

    return app


def _answers(checks: Checks) -> WSGIApplication:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answers = checks()
        is_well = all(answer.is_well for answer in answers)
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return _plain(start_response, status, [str(answer) for answer in answers] or ["ok"])

    return app


def _plain(start_response: StartResponse, status: HTTPStatus, lines: Iterable[str]) -> Iterable[bytes]:
    body = "".join(f"{line}\n" for line in lines).encode()
    start_response(f"{status.value} {status.phrase}", [("Content-Type", _TEXT), ("Content-Length", str(len(body)))])
    return [body]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Some versions of Python share the port with whoever listens there already: then requests go now here, now there.
    allow_reuse_port = False

    def server_bind(self) -> None:
        # As WSGIServer's, but for the look-up of this machine's name, which takes seconds where DNS is slow.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _logger.debug("a request of %s was not answered", client_address, exc_info=True)  # noqa: LOG014 - called by an except clause


class _Handler(WSGIRequestHandler):
    # A client that sends nothing does not hold a thread for ever.
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is given
        _logger.debug("%s: " + format, self.address_string(), *args)  # noqa: G003
