"""The coordinator as a server: the service, health, reflection, TLS, start and stop."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from updraft.cloud.backends.opening import open_backend
from updraft.cloud.config import CloudConfig
from updraft.cloud.escalation import EscalationService
from updraft.cloud.fleet.opening import open_fleet
from updraft.cloud.intake import Intake
from updraft.cloud.service import MAX_UNOPENED, CollaborationService
from updraft.config.endpoint import Endpoint, parse_endpoint, require_tls
from updraft.errors import RuntimeMissing
from updraft.models.sequence import Model
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc
from updraft.proto.v1 import escalation_pb2, escalation_pb2_grpc, fleet_pb2, fleet_pb2_grpc

_SERVICE = pb.DESCRIPTOR.services_by_name["Collaboration"].full_name
_ESCALATION = escalation_pb2.DESCRIPTOR.services_by_name["Escalation"].full_name
_FLEET = fleet_pb2.DESCRIPTOR.services_by_name["Fleet"].full_name
_MAX_FRAME_BYTES = 4 << 20


class Coordinator:
    """A running coordinator; make it inside the event loop that will serve it."""

    def __init__(self, config: CloudConfig, model: Model) -> None:
        self._config = config
        self._service = CollaborationService(model, config)
        backend = open_backend(config.backend, model.bundle, self._service.desk)
        self._escalation = EscalationService(backend, config.backend)
        fleet = config.fleet
        self._fleet = open_fleet(fleet, model.bundle) if fleet.enabled else None
        self._health = health.aio.HealthServicer()
        most_calls = 2 * (config.sessions.max_sessions + MAX_UNOPENED) + 16
        most_calls += 2 * self._escalation.most_calls
        if self._fleet is not None:
            # The others are told why they are refused.
            most_calls += 2 * (fleet.max_nodes + fleet.max_answers)
        self._server = grpc.aio.server(
            options=[
                # Streams whose client never reads what they ended with are bounded by this alone.
                ("grpc.max_concurrent_streams", most_calls),
                ("grpc.max_receive_message_length", _MAX_FRAME_BYTES),
                # Without this a second daemon on the same port would silently share it.
                ("grpc.so_reuseport", 0),
                # A connection that never says anything is closed, and holds no file for long.
                ("grpc.server_handshake_timeout_ms", int(1000 * config.sessions.open_timeout_s)),
                # A dead peer is noticed within seconds, so its session's memory comes back.
                ("grpc.keepalive_time_ms", 5_000),
                ("grpc.keepalive_timeout_ms", 3_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
            ],
            # Room for every session's stream and an upload beside it, for streams that wait for
            # their first frame, and for those that are being ended.
            maximum_concurrent_rpcs=most_calls,
            interceptors=[Intake()],
        )
        rpc.add_CollaborationServicer_to_server(self._service, self._server)
        escalation_pb2_grpc.add_EscalationServicer_to_server(self._escalation, self._server)
        self._names = [_SERVICE, _ESCALATION]
        if self._fleet is not None:
            fleet_pb2_grpc.add_FleetServicer_to_server(self._fleet, self._server)
            self._names.append(_FLEET)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> Endpoint:
        """Listen; returns the address, with the port that was chosen where 0 was asked.

        Raises:
            ConfigError: the address needs TLS and has none.
            RuntimeMissing: the port is in use.
        """
        endpoint = parse_endpoint(self._config.listen)
        require_tls(endpoint, self._config.tls)
        try:
            if self._config.tls is None:
                port = self._server.add_insecure_port(str(endpoint))
            else:
                tls = self._config.tls.read()
                credentials = grpc.ssl_server_credentials(
                    [(tls.key, tls.certificate)], tls.authority, require_client_auth=True
                )
                port = self._server.add_secure_port(str(endpoint), credentials)
        except RuntimeError as error:
            raise RuntimeMissing(
                f"cannot listen on {endpoint}: the port is in use or the address is not this "
                "machine's; choose another with --listen"
            ) from error
        await self._server.start()
        self._service.start()
        self._escalation.start()
        if self._fleet is not None:
            self._fleet.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return Endpoint(endpoint.host, port)

    async def stop(self) -> None:
        """Refuse new sessions, give running ones `drain_s` to finish, and end."""
        await self._health.enter_graceful_shutdown()
        ending = [self._escalation.close(self._config.drain_s)]
        if self._fleet is not None:
            ending.append(self._fleet.close(self._config.drain_s))
        await asyncio.gather(*ending)
        await self._server.stop(self._config.drain_s)
        self._service.close()
