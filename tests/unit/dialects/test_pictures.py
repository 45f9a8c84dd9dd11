"""Pictures: their size from real files, and what the providers' own examples say that they count for."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.gemini import GeminiGenerate
from gateway.dialects.openai_chat import IMAGE_TOKENS, OpenAIChat
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.pictures import Picture, claude_rule, gemini_rule, openai_rule, read


def picture(width: int, height: int, form: str = "PNG", **options: object) -> str:
    """A real one, in base64, made by somebody else's code."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, form, **options)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("GIF", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": b"Exif\0\0" + b"x" * 60_000}),
     ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"Exif\0\0x"})],
)  # fmt: skip
def test_the_size_is_read_from_the_first_bytes(form: str, options: dict[str, object]) -> None:
    """Whatever the format."""
    data = picture(640, 361, form, **options)
    assert read(data) == Picture(640, 361)
    assert read(data[: 90 * 1024]) == Picture(640, 361)


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "expected"),
    [
        ("gpt-4o", 1024, 1024, "high", 765),  # OpenAI's own examples
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4.1-mini", 1024, 1024, "", 1659),  # 1024 patches x 1.62
        ("gpt-4.1-nano", 5000, 5000, "", 3779),  # the most: 1536 patches x 2.46
        ("gpt-4o-mini", 512, 512, "", 8500),
        ("gpt-5", 512, 512, "", 210),
        ("o3-2025-04-16", 300, 200, "", 225),
        ("somebody/else", 1024, 1024, "", 765),
    ],
)
def test_openais_rules(model: str, width: int, height: int, detail: str, expected: int) -> None:
    """Tiles, patches, low detail."""
    assert openai_rule(model)(Picture(width, height, detail)) == expected


def test_anthropics_and_googles_rules() -> None:
    """Their published tables: 200 x 200 is about 54 tokens, a square megapixel about 1334; 258 a tile."""
    assert [claude_rule(Picture(side, side)) for side in (200, 1000, 8000)] == [54, 1334, 1600]
    assert [gemini_rule(Picture(*size)) for size in ((384, 384), (385, 100), (960, 540), (1600, 800))] == [
        258,
        258,
        516,
        1548,
    ]


@pytest.mark.parametrize("dialect", [OpenAIChat(), OpenAIResponses(), AnthropicMessages(), GeminiGenerate()])
def test_each_dialect_looks_at_its_pictures(dialect: object) -> None:
    """Where they stand in its bodies; the others count the flat number."""
    data = picture(512, 512)
    url = f"data:image/png;base64,{data}"
    bodies = {
        "chat": {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]},
        "responses": {"model": "gpt-4o", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
        "messages": {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": data}}]}]},
        "generate_content": {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]},
    }  # fmt: skip
    expected = {"chat": 255 + 7, "responses": 255 + 7, "messages": 350 + 7, "generate_content": 258}
    name = dialect.operation  # type: ignore[attr-defined]
    assert dialect.framing(json.dumps(bodies[name]).encode()) == expected[name]  # type: ignore[attr-defined]
    linked = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]}]
    }
    assert OpenAIChat().framing(json.dumps(linked).encode()) == IMAGE_TOKENS + 7


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.b64encode(data).decode()))
def test_no_data_makes_it_raise(data: str) -> None:
    """A picture that is none counts the flat number."""
    for head in ("", "iVBORw0KGgo", "R0lGODlh", "UklGRgAAAABXRUJQ", "/9j/"):
        found = read(head + data)
        assert found is None or (found.width > 0 and found.height > 0)
