"""The guarded connector: public addresses only, looked up once, and one POST over it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.push_service import Certificate, make_certificate, running_push_service
from tindra.outside.connector import (
    ADDRESSES_MAX,
    Allowed,
    Connector,
    Forbidden,
    parse_allowed,
)
from tindra.outside.https import ANSWER_BYTES_MAX, Unanswered, Unreached, post
from tindra.wire.http.url import HttpsUrl, parse_https_url

LOCAL = parse_allowed(["127.0.0.0/8"])
FORBIDDEN = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fec0::1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1", "198.19.255.255"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::ffff:100.64.0.1"],
    "compatible": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "translated": ["::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe"],
    "local NAT64": ["64:ff9b:1::1", "64:ff9b:1:fffe::8.8.8.8"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "192.88.99.1"],
    "Teredo": ["2001:0:7f00:1::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "protocol": ["2001:10::1", "2001:20::1", "2001:2::1", "100::1", "5f00::1", "4000::1"],
    "a link": ["fe80::1%1", "2606:4700::1%1"],
    "nonsense": ["", "localhost", "1.2.3", "127.1", "0x7f.1", "256.1.1.1", ":::"],
}
PUBLIC = [
    "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1",
    "2606:4700::1111", "2a00:1450:4001::5f", "2001:4860:4860::8888", "64:ff9b::8.8.8.8",
    "::ffff:8.8.8.8",
]  # fmt: skip


class Resolver:
    """A name server that a test makes lie."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.count = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.count += 1
        return self.answers.pop(0)


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, "push.example", "127.0.0.1")


def find(url: str, *addresses: str, allowed: tuple[str, ...] = (), port: int = 443) -> list[str]:
    connector = Connector(parse_allowed(allowed), resolve=Resolver(list(addresses)))
    return asyncio.run(connector._find_addresses(HttpsUrl(url, port, "/")))


@pytest.mark.parametrize("address", [a for family in FORBIDDEN.values() for a in family])
def test_no_address_of_ours_or_of_nobody_is_connected_to(address):
    with pytest.raises(Forbidden):
        find("push.example", address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_at_large_is(address):
    assert find("push.example", address) == [address]


def test_one_bad_address_spoils_a_name():
    with pytest.raises(Forbidden):
        find("push.example", "8.8.8.8", "127.0.0.1")
    with pytest.raises(Forbidden):
        find("push.example", "8.8.8.8", "2606:4700::1111", "::ffff:10.0.0.1")


def test_a_name_with_very_many_addresses_is_refused():
    assert len(find("push.example", *(f"8.8.8.{n}" for n in range(ADDRESSES_MAX)))) == ADDRESSES_MAX
    with pytest.raises(Forbidden):
        find("push.example", *(f"8.8.8.{n}" for n in range(ADDRESSES_MAX + 1)))


@pytest.mark.parametrize("port", [1, 22, 25, 80, 444, 993, 2375, 3306, 6379, 8080, 9200, 65535])
def test_no_other_service_is_knocked_at(port):
    with pytest.raises(Forbidden):
        find("push.example", "8.8.8.8", port=port)


def test_what_the_operator_allows_is_reached_at_any_port():
    assert find("push.intra", "10.1.2.3", allowed=("10.1.0.0/16",), port=9000) == ["10.1.2.3"]
    assert find("push.intra", "fd00::1", allowed=("[fd00::1]",)) == ["fd00::1"]
    assert find("push.intra", "10.9.9.9", allowed=("Push.Intra",), port=9000) == ["10.9.9.9"]
    for url, address in (("push.intra", "10.2.0.1"), ("other.intra", "192.168.0.1")):
        with pytest.raises(Forbidden):
            find(url, address, allowed=("10.1.0.0/16", "push.other"))


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "https://a", "a:443", "*.example", "10.0.0.1/8"]
)
def test_a_wrong_exception_is_named(entry):
    with pytest.raises(ValueError, match="no host name"):
        parse_allowed(["a.example", entry])


async def test_a_name_is_resolved_once_and_that_very_address_is_used(certificate: Certificate):
    """DNS rebinding: the second answer would be another one."""
    async with running_push_service(certificate.server) as service:
        resolver = Resolver(["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"])
        connector = Connector(LOCAL, certificate.client, resolver)
        url = HttpsUrl("push.example", service.port, "/p")
        answer = await post(connector, url, [("TTL", "1")], b"{}")
        assert answer.status == 201
        assert resolver.count == 1
        push = await service.next()
        assert push.fields["host"] == f"push.example:{service.port}"
        # A good answer to a look that would come first does not help the one that counts.
        resolver.answers = [["10.0.0.1"], ["127.0.0.1"]]
        with pytest.raises(Unreached, match="not public"):
            await post(connector, url, [], b"")
        assert resolver.count == 2
        assert service.connections == 1


async def test_the_certificate_must_be_that_of_the_name(certificate: Certificate):
    async with running_push_service(certificate.server) as service:
        for host, tls in (
            ("other.example", certificate.client),
            ("push.example", ssl.create_default_context()),
        ):
            connector = Connector(LOCAL, tls, Resolver(["127.0.0.1"]))
            with pytest.raises(Unreached, match="SSL"):
                await post(connector, HttpsUrl(host, service.port, "/"), [], b"")
        assert service.pushes.empty()


async def test_the_next_address_is_tried_when_one_does_not_answer(certificate: Certificate):
    async with running_push_service(certificate.server) as service:
        connector = Connector(LOCAL, certificate.client, Resolver(["127.0.0.9", "127.0.0.1"]))
        answer = await post(connector, HttpsUrl("push.example", service.port, "/"), [], b"x")
        assert answer.status == 201


async def test_a_real_resolver_and_a_url_of_this_machine(certificate: Certificate):
    async with running_push_service(certificate.server) as service:
        url = parse_https_url(f"https://127.0.0.1:{service.port}/x?y=1")
        answer = await post(Connector(LOCAL, certificate.client), url, [("A", "b")], b"body")
        assert answer.status == 201
        push = await service.next()
        assert (push.method, push.path, push.body) == ("POST", "/x?y=1", b"body")
        assert push.fields["connection"] == "close"
        with pytest.raises(Unreached, match="Forbidden"):
            await post(Connector(tls=certificate.client), url, [], b"")
        with pytest.raises(Unreached, match="Forbidden"):
            await post(Connector(), parse_https_url("https://localhost/"), [], b"")
        assert service.connections == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\n\r\n", 302),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 410 Gone\r\nRetry-After: 7\r\n\r\n", 410),
        (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 \r\n\r\n", 204),
        (b"HTTP/1.0 429 Slow\r\nRetry-After: 5\r\nContent-Length: 999999999\r\n\r\n", 429),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", 500),
    ],
)
async def test_the_head_of_the_final_answer_is_all_that_is_read(
    certificate: Certificate, raw: bytes, status: int
):
    async with running_push_service(certificate.server) as service:
        service.answers = [raw]
        url = parse_https_url(f"https://127.0.0.1:{service.port}/")
        answer = await post(Connector(LOCAL, certificate.client), url, [], b"")
        assert answer.status == status
        assert answer.fields.get("retry-after", "5") in ("5", "7")
        assert "a" not in answer.fields
        assert service.connections == 1  # nothing was followed


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 201 Created\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 201 Created\r\n" + b"X: " + b"x" * 2 * ANSWER_BYTES_MAX,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (ANSWER_BYTES_MAX // 20),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"+OK ready\r\n",
    ],
)
async def test_an_answer_that_is_none_is_an_error_within_bounds(
    certificate: Certificate, raw: bytes
):
    async with running_push_service(certificate.server) as service:
        service.answers = [raw]
        url = parse_https_url(f"https://127.0.0.1:{service.port}/")
        with pytest.raises(Unanswered):
            await post(Connector(LOCAL, certificate.client), url, [], b"")


async def test_a_server_that_never_answers_is_left(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tindra.outside.https.EXCHANGE_S", 0.2)
    async with running_push_service(certificate.server) as service:
        service.hold = asyncio.Event().wait
        url = parse_https_url(f"https://127.0.0.1:{service.port}/")
        with pytest.raises(Unanswered, match="TimeoutError"):
            await post(Connector(LOCAL, certificate.client), url, [], b"")


async def test_a_field_cannot_break_out_of_its_line(certificate: Certificate):
    async with running_push_service(certificate.server) as service:
        url = parse_https_url(f"https://127.0.0.1:{service.port}/")
        connector = Connector(LOCAL, certificate.client)
        with pytest.raises(AssertionError):
            await post(connector, url, [("A", "b\r\nHost: c")], b"")
        assert service.pushes.empty()


def test_nothing_is_allowed_unless_it_is_said():
    assert parse_allowed([]) == Allowed(frozenset(), ())
