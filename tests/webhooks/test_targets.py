"""Where webhooks may not go: not by name, by address, by redirect, nor by a second answer of DNS."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from saas_litellm.base import addresses
from saas_litellm.base.refusals import Invalid
from tests.conftest import wait_until
from tests.webhooks import making
from tests.webhooks.receiver import Receiver
from webhooks import sending, targets
from webhooks.models import Attempt

pytestmark = pytest.mark.any_database
PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%lo",
    "fc00::1",
    "fd12::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2001::1",
    "2002:7f00:1::1",
    "2001:db8::1",
    "nonsense",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111"]
Resolved = dict[str, list[list[str]]]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_no_address_of_the_open_internet(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_one(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks",
        "http://app.example.com/",
        "ftp://app.example.com/",
        "file:///etc/passwd",
        "unix:///var/run/docker.sock",
        "https:///hooks",
        "https://user:pass@app.example.com/",
        "https://app.example.com/#x",
        "https://app.example.com:99999/",
        "https://app.example.com/a b",
        "https://app.example.com/\r\nx: y",
        "https://bücher.example/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.8:8443/",
        f"https://app.example.com/{'x' * 2000}",
    ],
)
def test_no_endpoint_is_made_for(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        targets.check(url)
    assert refused.value.param == "url"


def test_an_endpoint_may_be_on_any_host_and_port_of_the_internet() -> None:
    targets.check("https://app.example.com:8443/hooks?tenant=1")
    targets.check("https://8.8.8.8/hooks")


def test_private_targets_and_http_are_settings(settings: Any) -> None:
    settings.WEBHOOK_PRIVATE_TARGETS = settings.DEBUG = True
    targets.check("http://127.0.0.1:8000/hooks")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolved:
    """What names resolve to: each question takes the next answer, and the last one stays."""
    known: Resolved = {}

    async def answer(self: Any, host: str, port: int, **options: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror
        answers = known[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", answer)
    return known


async def posted(url: str) -> sending.Answer:
    async with sending.connections() as pool:
        return await sending.post(pool, url, headers={"content-type": "x"}, body=b"{}")


async def test_a_name_of_this_network_is_not_connected_to(
    names: Resolved, receiver: Receiver, settings: Any
) -> None:
    settings.DEBUG = True
    names["inside.example"] = [["127.0.0.1", "10.0.0.1", "::1"]]
    answer = await posted(f"http://inside.example:{receiver.port}/")
    assert (answer.status, answer.failure) == (
        None,
        "refused: the host's address is not on the open internet",
    )
    assert receiver.got == []
    assert (await posted("http://nowhere.example/")).failure == "refused: the host has no address"


async def test_a_second_answer_of_the_name_leads_nowhere_else(
    names: Resolved, receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: public when it is checked, this machine a moment later."""
    settings.DEBUG = True
    names["rebinding.example"] = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []

    async def note(self: Any, host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", note)
    await posted(f"http://rebinding.example:{receiver.port}/")
    assert asked == ["93.184.216.34"]
    await posted(f"http://rebinding.example:{receiver.port}/")
    assert asked == ["93.184.216.34"]
    assert receiver.got == []


async def test_only_the_public_ones_of_many_addresses_are_tried(
    names: Resolved, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = True
    names["mixed.example"] = [["10.0.0.1", "8.8.8.8", "127.0.0.1", "8.8.4.4"]]
    asked: list[str] = []

    async def note(self: Any, host: str, port: int, **options: Any) -> Any:
        asked.append(host)
        raise httpcore.ConnectError

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", note)
    assert (await posted("http://mixed.example/")).status is None
    assert asked == ["8.8.8.8", "8.8.4.4"]


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = settings.WEBHOOK_PRIVATE_TARGETS = True
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await posted(receiver.url)).status == 200


async def test_http_is_refused_without_debug(receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOK_PRIVATE_TARGETS = True
    assert (await posted(receiver.url)).failure == "only https is written to"
    assert receiver.got == []


def test_a_host_that_moves_into_this_network_gets_nothing(
    couriers: Any, names: Resolved, receiver: Receiver, settings: Any
) -> None:
    endpoint, _ = making.endpoint(f"http://app.example:{receiver.port}/")
    settings.WEBHOOK_PRIVATE_TARGETS = False
    names["app.example"] = [["127.0.0.1"]]
    couriers()
    making.happen("a")
    wait_until(lambda: Attempt.objects.exclude(failure="").exists())
    assert making.last_attempt(endpoint).failure.startswith("refused:")
    assert receiver.got == []


@pytest.mark.parametrize(("host", "is_taken"), [("hook.test", True), ("other.test", False)])
async def test_the_certificate_is_checked_against_the_name(
    names: Resolved, settings: Any, tmp_path: Path, host: str, is_taken: bool
) -> None:
    settings.WEBHOOK_PRIVATE_TARGETS = True
    names[host] = [["127.0.0.1"]]
    chain = _certificate("hook.test", tmp_path)
    server = _serving(chain)
    trusting = ssl.create_default_context(cafile=str(chain))
    async with sending.connections(trusting) as pool:
        url = f"https://{host}:{server.server_port}/"
        answer = await sending.post(pool, url, headers={"content-type": "x"}, body=b"{}")
    server.shutdown()
    assert (answer.status == 204) == is_taken
    assert ("CERTIFICATE_VERIFY_FAILED" in answer.failure) != is_taken


def _serving(chain: Path) -> HTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    class Quiet(HTTPServer):
        def handle_error(self, *args: Any) -> None: ...

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _certificate(name: str, where: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = where / "chain.pem"
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return chain
