"""Mutual TLS between edge and coordinator, with certificates made for this run."""

import datetime as dt
import ipaddress
from contextlib import closing

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from updraft.config.endpoint import TlsFiles, parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.agent import connect
from updraft.edge.asking import FleetClient
from updraft.edge.config import Cloud
from updraft.edge.engine import Engine
from updraft.edge.session import Terms
from updraft.errors import ConfigError, LinkError
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder, name):
        self.folder = folder / name
        self.folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._certificate(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = self._write("authority.pem", own.sign(self._key, hashes.SHA256()))

    def issue(self, name):
        """Return the files of one side."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        hosts = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        builder = self._certificate(subject, key).add_extension(
            x509.SubjectAlternativeName(hosts), critical=False
        )
        private = self.folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        signed = self._write(f"{name}.pem", builder.sign(self._key, hashes.SHA256()))
        return TlsFiles(certificate=signed, key=private, authority=self.file)

    def _certificate(self, subject, key):
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )

    def _write(self, name, certificate):
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "theirs")


@pytest.fixture(scope="session")
def device(authority):
    return authority.issue("device")


@pytest.fixture
def secured(start_coordinator, authority):
    """A coordinator with mutual TLS."""
    files = authority.issue("coordinator")
    lines = [f'{name} = "{path}"' for name, path in files.model_dump().items()]
    return start_coordinator(config="\n".join(["[tls]", *lines]))


@pytest.fixture
def link_with(bundle):
    """Return a function that makes a link with some files, or none."""
    links = []

    def make(daemon, tls):
        links.append(connect(Cloud(address=daemon.address, tls=tls, open_timeout_s=30), bundle))
        return links[-1]

    yield make
    for link in links:
        link.close()


@pytest.fixture
def secured_engine(bundle, link_with, secured, device):
    link = link_with(secured, device)
    return Engine(bundle, RuntimeOptions(), ModelledMeter(10), link, whole_model=True)


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_a_device_with_a_certificate_generates(secured_engine, complete, snippets, mode):
    choices = {"theta": 1.5, "wire": "fp32", "max_tokens": 8}
    result = complete(secured_engine, snippets[0], mode, **choices)
    assert not result.degraded
    assert result.tokens == complete(secured_engine, snippets[0], "full", **choices).tokens


def test_a_client_that_does_not_speak_tls_is_turned_away(
    secured, secured_engine, link_with, complete, snippets
):
    with pytest.raises(LinkError):
        link_with(secured, None).open(Terms("fp16", Sampling())).opened.result()
    assert not complete(secured_engine, snippets[0], "cloud", max_tokens=2).degraded


def test_a_client_without_a_certificate_is_turned_away(
    secured, secured_engine, authority, complete, snippets
):
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with (
        grpc.secure_channel(secured.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        rpc.CollaborationStub(channel).Describe(pb.DescribeRequest(), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not complete(secured_engine, snippets[0], "cloud", max_tokens=2).degraded


def test_a_certificate_of_another_authority_is_turned_away(
    secured, secured_engine, authority, stranger, bundle, link_with, complete, snippets
):
    foreign = stranger.issue("device").model_copy(update={"authority": authority.file})
    link = link_with(secured, foreign)
    with pytest.raises(LinkError):
        link.open(Terms("fp16", Sampling())).opened.result()
    engine = Engine(bundle, RuntimeOptions(), ModelledMeter(10), link)
    result = complete(engine, snippets[0], "threshold", theta=1.5, max_tokens=4)
    assert (result.degraded, len(result.tokens)) == (True, 4)
    assert not complete(secured_engine, snippets[0], "cloud", max_tokens=2).degraded


def test_a_coordinator_of_another_authority_is_not_trusted(secured, stranger, link_with):
    with pytest.raises(LinkError):
        link_with(secured, stranger.issue("device")).open(Terms("fp16", Sampling())).opened.result()


def test_a_device_with_tls_does_not_fall_back_to_plain_text(coordinator, device, link_with):
    with pytest.raises(LinkError):
        link_with(coordinator, device).open(Terms("fp16", Sampling())).opened.result()


def test_a_remote_coordinator_needs_tls(bundle):
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:7600 is not a loopback address"):
        connect(Cloud(address="192.0.2.1:7600"), bundle)


def test_a_missing_certificate_file_is_named(bundle, device, tmp_path):
    gone = device.model_copy(update={"certificate": tmp_path / "gone.pem"})
    with pytest.raises(ConfigError, match=r"gone\.pem: tls\.certificate cannot be read"):
        connect(Cloud(address="127.0.0.1:1", tls=gone), bundle)


@pytest.fixture
def secured_fleet(start_coordinator, start_daemon, authority, device, tmp_path):
    """A coordinator of a fleet with mutual TLS, and a node with a certificate."""

    def lines(files):
        return [f'{name} = "{path}"' for name, path in files.model_dump().items()]

    config = ["[fleet]", "enabled = true", "[tls]", *lines(authority.issue("coordinator"))]
    coordinator = start_coordinator(config="\n".join(config))
    node = ["[node]", "enabled = true", 'name = "n"', "[api]", 'listen = "127.0.0.1:0"']
    node += ["[cloud]", f'address = "{coordinator.address}"', "[cloud.tls]", *lines(device)]
    (tmp_path / "node.toml").write_text("\n".join(node))
    start_daemon("edge", "serve", "--config", tmp_path / "node.toml")
    return parse_endpoint(coordinator.address)


def test_a_fleet_lets_in_who_has_a_certificate_and_nobody_else(
    secured_fleet, device, stranger, authority, wait_until
):
    foreign = stranger.issue("device").model_copy(update={"authority": authority.file})
    with (
        closing(FleetClient(secured_fleet, device.read())) as client,
        closing(FleetClient(secured_fleet, foreign.read())) as other,
        closing(FleetClient(secured_fleet)) as plain,
    ):
        wait_until(lambda: any(node["ready"] for node in client.plan()["nodes"]))
        assert client.answer("import ", 4).tokens == 4
        for unknown in (other, plain):
            with pytest.raises(LinkError):
                unknown.plan()
