"""wire/routes: which upstream a path means, and what it is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Failure, Kind
from gateway.wire.routes import Routes, Rule

ROUTES = Routes(
    [Rule("anthropic", path="/v1/messages"), Rule("local", model="llama*"), Rule("openai", path="/v1")],
    {"openai": ("openai", "/v1"), "anthropic": ("anthropic", ""), "local": ("openai", "/api/v1")},
)


@pytest.mark.parametrize(
    ("target", "model", "upstream", "protocol", "asked"),
    [
        ("/v1/chat/completions", "gpt-4o", "openai", "openai", "/v1/chat/completions"),
        ("/v1/chat/completions", "llama-3", "local", "openai", "/api/v1/chat/completions"),
        ("/v1/messages?beta=true", "claude-x", "anthropic", "anthropic", "/v1/messages?beta=true"),
        ("/v1/messages/count_tokens", "", "anthropic", "anthropic", "/v1/messages/count_tokens"),
        ("/v1/messagesX", "", "openai", "openai", "/v1/messagesX"),
        ("/v1", "", "openai", "openai", "/v1"),
        ("/anthropic/v1/messages", "", "anthropic", "anthropic", "/v1/messages"),
        ("/openai/chat/completions", "", "openai", "openai", "/v1/chat/completions"),
        ("/openai", "", "openai", "openai", "/v1/"),
        ("/openai?x", "", "openai", "openai", "/v1/?x"),
        ("/openai//a/../%2e%2E/b?", "", "openai", "openai", "/v1//a/../%2e%2E/b?"),
    ],
)
def test_a_path_leads_to_one_upstream_and_keeps_its_bytes(target, model, upstream, protocol, asked):
    """Prefixes are cut off and put on; nothing else of a target changes."""
    place = ROUTES.place(target)
    assert place.protocol == protocol
    assert ROUTES.choose(place, model) == (upstream, asked)


@pytest.mark.parametrize("target", ["/", "/metrics", "/nowhere/x", "/health/live", "/api/v1/calls", "/OPENAI/x"])
def test_what_is_no_providers_is_unknown(target):
    """The front has provider routes only."""
    with pytest.raises(Failure) as failure:
        ROUTES.place(target)
    assert failure.value.kind is Kind.UNKNOWN_ROUTE


@pytest.mark.parametrize("target", ["http://evil.example/v1/x", "*", "evil.example:443", ""])
def test_only_origin_form_is_read(target):
    """RFC 9112 3.2: a gateway is not a forward proxy."""
    with pytest.raises(Failure) as failure:
        ROUTES.place(target)
    assert failure.value.kind is Kind.MALFORMED_REQUEST


@given(st.text("/.%?#;=&aZ0~-_", max_size=60))
def test_whatever_follows_the_prefix_arrives_unchanged(rest):
    """Nothing is decoded, merged or normalised."""
    place = ROUTES.place("/anthropic/" + rest)
    assert ROUTES.choose(place, "")[1] == "/" + rest
