"""Addresses, and the rule that plain text stays on loopback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.config.endpoint import Endpoint, TlsFiles, TlsMaterial, parse_endpoint, require_tls
from updraft.errors import ConfigError

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
HOSTS = st.ip_addresses().map(str) | NAMES
PORTS = st.integers(0, 65535)


@given(HOSTS, PORTS)
def test_an_endpoint_survives_being_written_and_parsed(host, port):
    endpoint = Endpoint(host, port)
    assert parse_endpoint(str(endpoint)) == endpoint


@given(HOSTS, PORTS)
def test_a_parsed_text_is_written_as_it_was(host, port):
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert str(parse_endpoint(text)) == text


@given(st.text(max_size=20))
def test_any_other_text_is_refused_as_a_configuration_fault(text):
    try:
        endpoint = parse_endpoint(text)
    except ConfigError as error:
        assert repr(text) in str(error)
    else:
        assert endpoint.host
        assert 0 <= endpoint.port <= 65535


@pytest.mark.parametrize(
    "text",
    ["", ":", "7600", "host", "host:", ":7600", "[]:1", "h:-1", "h:65536", "h:1.5", "h: 1", "h:²",
     "h:٣", "h:" + "9" * 5000, "h:0x10", "h:1_0"],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_text_without_a_host_or_a_port_is_refused(text):
    with pytest.raises(ConfigError, match="HOST:PORT is expected"):
        parse_endpoint(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_may_go_without_certificates(host):
    endpoint = Endpoint(host, 7600)
    assert endpoint.is_loopback
    require_tls(endpoint, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "2001:db8::1", "edge.example", "localhost.example"]
)
def test_other_hosts_need_certificates(host):
    endpoint = Endpoint(host, 7600)
    assert not endpoint.is_loopback
    with pytest.raises(ConfigError, match="prompts would travel in plain text"):
        require_tls(endpoint, None)
    require_tls(endpoint, TlsFiles(certificate="c", key="k", authority="a"))


def test_certificates_are_read_in_their_roles(tmp_path):
    paths = {name: tmp_path / name for name in ("certificate", "key", "authority")}
    for name, path in paths.items():
        path.write_bytes(name.encode())
    assert TlsFiles(**paths).read() == TlsMaterial(b"certificate", b"key", b"authority")


def test_every_certificate_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "key").write_bytes(b"key")
    files = TlsFiles(certificate=tmp_path / "c", key=tmp_path / "key", authority=tmp_path)
    with pytest.raises(ConfigError) as caught:
        files.read()
    assert caught.value.faults == [
        f"{tmp_path / 'c'}: tls.certificate cannot be read: No such file or directory",
        f"{tmp_path}: tls.authority cannot be read: Is a directory",
    ]
