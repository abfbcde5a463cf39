"""The edge agent as a daemon: engine, link and local API, started and stopped together."""

from __future__ import annotations

import socket
from contextlib import closing

import uvicorn

from updraft.config.endpoint import Endpoint, parse_endpoint, require_tls
from updraft.devices.fit import Load
from updraft.edge.api.server import Api
from updraft.edge.config import Cloud, EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.governor import Governor
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.membership import fleet_endpoint, in_fleet
from updraft.edge.metering import open_own_meter
from updraft.edge.spending import governed, read_budget
from updraft.errors import ConfigError, RuntimeMissing
from updraft.models.bundle import Bundle
from updraft.models.room import require_room
from updraft.models.workload import workload_of

_DRAIN_S = 5
_MOST_CONNECTIONS = 1024


def connect(cloud: Cloud, bundle: Bundle) -> CloudLink | None:
    """Return a link to the configured coordinator; it need not be there yet.

    Raises:
        ConfigError: the address or its certificates are wrong.
    """
    if cloud.address is None:
        return None
    endpoint = parse_endpoint(cloud.address)
    require_tls(endpoint, cloud.tls)
    deadlines = Deadlines(
        open_s=cloud.open_timeout_s,
        answer_s=cloud.answer_timeout_s,
        text_s=cloud.text_timeout_s,
    )
    tls = cloud.tls.read() if cloud.tls else None
    return CloudLink(endpoint, bundle.fingerprint, tls, deadlines)


class Agent:
    """An edge agent; `bind` first, so that a port in use costs no loading."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._endpoint = parse_endpoint(config.api.listen)
        self._fleet = fleet_endpoint(config)
        self._budget = read_budget(config)
        if not (self._endpoint.is_loopback or config.api.allow_remote):
            raise ConfigError(
                [
                    f"api.listen: {self._endpoint} is not a loopback address, and the local API "
                    "has no authentication: set api.allow_remote = true if this network is yours"
                ]
            )

    def bind(self) -> Endpoint:
        """Take the port; returns the address, with the port chosen where 0 was asked.

        Raises:
            RuntimeMissing: the port is in use or the address is not this machine's.
        """
        family = socket.AF_INET6 if ":" in self._endpoint.host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(tuple(self._endpoint))
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise RuntimeMissing(
                f"cannot listen on {self._endpoint}: {error.strerror}; choose another address "
                "with --listen"
            ) from error
        return Endpoint(self._endpoint.host, self._socket.getsockname()[1])

    @property
    def _whole(self) -> bool:
        """Whether the layers above the split are loaded too."""
        joins_full = self._fleet is not None and self._config.node.mode == "full"
        return self._config.decoding.whole_model or joins_full

    def require_room(self, bundle: Bundle, tuned: Bundle | None = None) -> None:
        """Refuse bundles that will not fit into memory, before anything of them is loaded.

        Raises:
            BundleError: with what is needed, what is free, and what would fit.
        """
        contexts = self._config.api.max_generations
        if self._fleet is not None:
            contexts += self._config.node.concurrency
        top = None if self._whole else bundle.manifest.split
        load = Load(
            workload_of(bundle),
            contexts,
            top,
            contexts_key="api.max_generations",
            kept_mib=self._config.decoding.prefix_cache_mib,
            kept_key="decoding.prefix_cache_mib",
        )
        memory = None if self._budget is None else self._budget.limit("memory")
        require_room(load, tuned, memory)

    def serve(self, bundle: Bundle, tuned: Bundle | None = None) -> None:
        """Load the bundles and serve until SIGTERM or SIGINT; running answers may finish.

        Args:
            tuned: holds the tuned small model of mode `proxy`.
        """
        config, compute = self._config, self._config.compute
        link = connect(config.cloud, bundle)
        try:
            opened = open_own_meter(config.energy, compute.provider, own_devices=config.catalog)
            with closing(opened) as meter:
                kept_bytes = config.decoding.prefix_cache_mib << 20
                engine = Engine(bundle, compute, meter, link, self._whole, tuned, kept_bytes)
                with governed(engine, config, self._budget) as governor:
                    self._run(engine, governor)
        finally:
            if link is not None:
                link.close()

    def _run(self, engine: Engine, governor: Governor | None) -> None:
        with closing(Api(engine, self._config, governor)) as api:
            server = _Server(
                api,
                uvicorn.Config(
                    api.app,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    limit_concurrency=_MOST_CONNECTIONS,
                    timeout_graceful_shutdown=_DRAIN_S,
                ),
            )
            with in_fleet(engine, self._config, self._fleet, governor):
                server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Lets running answers end when it is asked to, and refuses those that wait."""

    def __init__(self, api: Api, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._api = api

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._api.drain()
        await super().shutdown(sockets)
