"""(protocol, method, path) to dialect."""

from __future__ import annotations

import pytest

from gateway.dialects.table import dialect_for


@pytest.mark.parametrize(
    ("protocol", "path", "operation"),
    [
        ("openai", "/chat/completions", "chat"),
        ("openai", "/v1/chat/completions", "chat"),
        ("openai", "/completions", "text_completion"),
        ("openai", "/v1/responses", "responses"),
        ("openai", "/responses/compact", "responses"),
        ("openai", "/embeddings", "embeddings"),
        ("openai", "/v1/messages", "messages"),
        ("anthropic", "/v1/messages", "messages"),
        ("anthropic", "/v1/chat/completions", "chat"),
        ("gemini", "/v1beta/openai/chat/completions", "chat"),
        ("gemini", "/v1beta/openai/embeddings", "embeddings"),
        ("openai", "/openai/deployments/my-gpt/chat/completions", "chat"),
        ("openai", "/openai/deployments/my-gpt/embeddings", "embeddings"),
    ],
)
def test_a_known_path_is_metered(protocol: str, path: str, operation: str) -> None:
    """With and without version, and at the end of a longer path."""
    dialect = dialect_for(protocol, "POST", path)
    assert (dialect.operation, dialect.metered) == (operation, True)


@pytest.mark.parametrize(
    "path",
    ["//v1//chat/completions", "/chat/completions/", "/v1/./chat/../chat/completions", "/%63hat/completions", "/v1/Chat/Completions", "chat/completions"],
)  # fmt: skip
def test_an_unusual_spelling_is_not_a_free_one(path: str) -> None:
    """What a lenient upstream serves is metered."""
    assert dialect_for("openai", "POST", path).operation == "chat"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/chat/completions"),
        ("DELETE", "/responses"),
        ("POST", "/v1/threads/thread_1/messages"),
        ("POST", "/responses/resp_1/cancel"),
        ("POST", "/files"),
        ("POST", "/"),
        ("POST", ""),
        ("POST", "/%ff%00\n"),
    ],
)
def test_anything_else_is_opaque(method: str, path: str) -> None:
    """Forwarded, recorded, unmetered."""
    dialect = dialect_for("openai", method, path)
    assert (dialect.operation, dialect.metered) == ("unmetered", False)


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/messages/count_tokens", "count_tokens"),
        ("/responses/input_tokens", "count_tokens"),
        ("/v1/moderations", "moderations"),
    ],
)
def test_what_no_provider_bills_has_a_name_of_its_own(path: str, operation: str) -> None:
    """So that no budget stands in its way."""
    dialect = dialect_for("openai", "POST", path)
    assert (dialect.operation, dialect.metered) == (operation, False)


def test_an_opaque_dialect_speaks_its_protocol() -> None:
    """So that a refusal is understood on any path; an unknown protocol is taken for OpenAI's."""
    names = [
        dialect_for(protocol, "GET", "/x").credential("s")[0] for protocol in ("openai", "anthropic", "gemini", "?")
    ]
    assert names == [b"Authorization", b"x-api-key", b"x-goog-api-key", b"Authorization"]


@pytest.mark.parametrize(
    ("path", "operation", "model", "stream"),
    [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "generate_content", "gemini-2.5-flash", False),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", "generate_content", "gemini-2.5-flash", True),
        ("/v1beta/models/gemini%2D2.5-flash:generateContent", "generate_content", "gemini-2.5-flash", False),
        ("//v1beta/./models/gemini-2.5-flash:generateContent", "generate_content", "gemini-2.5-flash", False),
        ("/v1beta/models/gemini-2.5-flash%3AgenerateContent", "generate_content", "gemini-2.5-flash", False),
        ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "generate_content", "g", False),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4-6:streamRawPredict", "messages", "claude-opus-4-6", True),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/mistral-large:rawPredict", "chat", "mistral-large", False),
        ("/v1beta/models/gemini-embedding-001:batchEmbedContents", "embeddings", "gemini-embedding-001", False),
        ("/openai/deployments/my-gpt/chat/completions", "chat", "my-gpt", False),
        ("/openai/deployments/my%20gpt/embeddings", "embeddings", "my gpt", False),
    ],
)  # fmt: skip
def test_a_model_in_the_path_wins_over_one_in_the_body(path: str, operation: str, model: str, stream: bool) -> None:
    """The provider goes by the path; a cheaper name in the body must not make the call look cheaper."""
    ask = dialect_for("gemini", "POST", path).ask(b'{"model": "cheap"}')
    assert (ask.operation, ask.model, ask.stream, ask.metered) == (operation, model, stream, True)


@pytest.mark.parametrize(
    "path", ["/v1beta/models/g:countTokens", "/v1beta/models/g:predict", "/v1beta/cachedContents", "/v1beta/models/g"]
)
def test_other_verbs_of_a_model_are_not_metered(path: str) -> None:
    """Counting is free; what is not understood is forwarded and recorded."""
    dialect = dialect_for("gemini", "POST", path)
    assert not dialect.metered
    assert dialect.operation == ("count_tokens" if path.endswith("countTokens") else "unmetered")
