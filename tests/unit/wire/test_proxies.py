"""Which proxy stands on the way: the environment as curl reads it, exceptions, and addresses that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.wire.proxies import Proxy, is_exempt, masked, of_environment, parse
from tests.harness.gateways import write

OPENAI = {"host": "api.openai.com", "port": 443, "tls": True}
PLAIN = {"host": "models.internal", "port": 80, "tls": False}


@pytest.mark.parametrize(
    ("environ", "upstream", "expected"),
    [
        ({}, OPENAI, None),
        ({"HTTPS_PROXY": "http://a:1"}, OPENAI, Proxy("a", 1)),
        ({"HTTPS_PROXY": "http://a:1"}, PLAIN, None),
        ({"HTTP_PROXY": "http://a:1"}, PLAIN, Proxy("a", 1)),
        ({"http_proxy": "http://a:1"}, OPENAI, None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, OPENAI, Proxy("a", 1)),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://b:2"}, OPENAI, Proxy("b", 2)),
        ({"all_proxy": "http://a:1"}, PLAIN, Proxy("a", 1)),
        ({"ALL_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2"}, OPENAI, Proxy("b", 2)),
        ({"ALL_PROXY": "http://a:1", "NO_PROXY": "x.test, openai.com"}, OPENAI, None),
        ({"ALL_PROXY": "http://a:1", "no_proxy": "*"}, OPENAI, None),
        ({"ALL_PROXY": "socks5://a:1", "HTTPS_PROXY": "http://b:2"}, OPENAI, Proxy("b", 2)),
        ({"ALL_PROXY": "http://a:1"}, {"host": "localhost", "port": 1, "tls": False}, None),
        ({"ALL_PROXY": "http://a:1"}, {"host": "up.localhost.", "port": 1, "tls": True}, None),
        ({"ALL_PROXY": "http://a:1"}, {"host": "127.3.2.1", "port": 1, "tls": True}, None),
        ({"ALL_PROXY": "http://a:1"}, {"host": "::1", "port": 1, "tls": True}, None),
        ({"ALL_PROXY": "http://a:1"}, {"host": "::ffff:127.0.0.1", "port": 1, "tls": True}, None),
        ({"ALL_PROXY": "http://a:1"}, {"host": "localhost.test", "port": 1, "tls": True}, Proxy("a", 1)),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(environ: Any, upstream: Any, expected: Proxy | None) -> None:
    """Lower case first, the scheme's own variable before ``ALL_PROXY``, and never for this machine itself."""
    assert of_environment(environ, **upstream) == expected


@pytest.mark.parametrize(
    ("entries", "host", "port", "expected"),
    [
        ("example.test", "example.test", 443, True),
        ("example.test", "API.Example.TEST.", 443, True),
        ("example.test", "badexample.test", 443, False),
        (".example.test", "example.test", 443, True),
        (".example.test", "a.b.example.test", 443, True),
        ("*.example.test", "a.example.test", 443, True),
        ("example.test:8443", "example.test", 443, False),
        ("example.test:443", "example.test", 443, True),
        ("example.test:https", "example.test", 443, False),
        ("a.test b.test,,c.test", "b.test", 1, True),
        ("", "a.test", 1, False),
        (".", "a.test", 1, False),
        ("*", "10.0.0.1", 1, True),
        ("10.0.0.1", "10.0.0.1", 1, True),
        ("10.0.0.0/8", "10.200.0.1", 1, True),
        ("10.0.0.0/8", "11.0.0.1", 1, False),
        ("10.0.0.1/8", "10.200.0.1", 1, True),
        ("10.0.0.0/8", "ten.test", 1, False),
        ("10.0.0.0/8:80", "10.0.0.1", 443, False),
        ("0.1", "10.0.0.1", 1, False),
        ("2001:db8::/32", "2001:db8::7", 1, True),
        ("[2001:db8::7]:443", "2001:db8::7", 443, True),
        ("[2001:db8::7]:443", "2001:db8::7", 80, False),
        ("[2001:db8::7]", "2001:db8::7", 80, True),
        ("10.0.0.0/99", "10.0.0.1", 1, False),
    ],
)
def test_exceptions_are_hosts_suffixes_ports_addresses_and_networks(
    entries: str, host: str, port: int, expected: bool
) -> None:
    assert is_exempt(entries, host, port) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("proxy.test:3128", Proxy("proxy.test", 3128)),
        ("http://proxy.test", Proxy("proxy.test", 80)),
        ("https://proxy.test/", Proxy("proxy.test", 443, tls=True)),
        ("HTTP://[2001:db8::1]:1", Proxy("2001:db8::1", 1)),
        ("http://Aladdin:open%20sesame@p:1", Proxy("p", 1, authorization=b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("http://user@p:1", Proxy("p", 1, authorization=b"Basic dXNlcjo=")),
    ],
)
def test_an_address_of_a_proxy_is_read(url: str, expected: Proxy) -> None:
    assert parse(url) == expected


def test_a_tunnel_is_asked_for_by_name() -> None:
    """An IPv6 address in brackets, other letters as ASCII."""
    proxy = parse("http://u:p@proxy.test")
    head = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    for host, place in (("2001:db8::7", b"[2001:db8::7]:443"), ("b\u00fccher.test", b"xn--bcher-kva.test:443")):
        assert proxy.connect_head(host, 443) == head % (place, place)


def test_nobody_reads_the_credentials() -> None:
    proxy = parse("https://somebody:canary@proxy.test")
    assert "canary" not in f"{proxy!r} {proxy} {masked('https://somebody:canary@proxy.test')}"
    assert masked("somebody:canary@proxy.test:1") == "***@proxy.test:1"
    assert masked("http://proxy.test:1") == "http://proxy.test:1"
    assert str(proxy) == "https://proxy.test:443"


# -- the config -----------------------------------------------------------------------------------------------------------


def checked(folder: Path, env: dict[str, str] | None = None, **up: str) -> Any:
    up = {"base_url": "https://api.provider.test"} | up
    path = write(folder, {"upstreams": {"up": up, "openai": None, "anthropic": None, "gemini": None}})
    return CliRunner().invoke(main, ["check", "--config", str(path)], env=env)


@pytest.mark.parametrize("key", ["proxy", "proxy_file"])
def test_check_shows_the_proxy_without_its_credentials(tmp_path: Path, key: str) -> None:
    """Written, or from a file of its own."""
    url, file = "http://somebody:canary@proxy.test:3128", tmp_path / "proxy"
    file.write_text(url)
    shown = checked(tmp_path, **{key: url if key == "proxy" else str(file)})
    assert "proxy: http://***@proxy.test:3128" in shown.output
    assert "canary" not in shown.output
    assert "somebody" not in shown.output


def test_two_proxies_are_two_versions_of_a_config(tmp_path: Path) -> None:
    """Another password is another config, although neither is shown."""
    one, two = (checked(tmp_path, proxy=f"http://u:{word}@proxy.test").output for word in ("one", "two"))
    assert one.partition("\n")[0] != two.partition("\n")[0]
    assert one.partition("\n")[2] == two.partition("\n")[2]


URLS = (
    "socks5://u:canary@h:1",
    "http://",
    "http://u:canary@h:99999",
    "http://u:canary@h/p",
    "ftp://h",
    "http://u:canary@h h",
)


@pytest.mark.parametrize("url", URLS)
def test_a_proxy_that_cannot_be_used_is_a_problem_of_the_config(tmp_path: Path, url: str) -> None:
    """Said at the start, not at the first call; never by going without it."""
    own = checked(tmp_path, proxy=url)
    assert (own.exit_code, "upstreams.up.proxy" in own.output, "canary" in own.output) == (2, True, False)
    environ = checked(tmp_path, env={"ALL_PROXY": url})
    assert (environ.exit_code, "ALL_PROXY" in environ.output, "canary" in environ.output) == (2, True, False)
    assert checked(tmp_path, env={"ALL_PROXY": url}, proxy="none").exit_code == 0
