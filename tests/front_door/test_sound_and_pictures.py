"""Speech, transcription and images through the front door: the SDK's own bodies, bytes untouched, billed in their units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.front_door.conftest import Serve
from tests.harness.gateways import records
from tests.harness.messages import response
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOUND = bytes(range(256)) * 12_000
PRICES = {
    "rows": [
        {"id": "whisper", "provider": "openai", "names": ["whisper-1"], "rates": {"input": "0", "seconds": "0.36"}},
        {"id": "tts", "provider": "openai", "names": ["tts-1"], "rates": {"input": "0", "characters": "15"}},
        {"id": "painter", "provider": "openai", "names": ["painter"], "rates": {"input": "0", "images": "0.07"}},
    ]
}
BUDGET = {"scope": "global", "limit_usd": "1", "window": "total", "mode": "strict"}


async def start(serve: Serve, folder: Path, **blocks: Any) -> tuple[Any, openai.AsyncOpenAI]:
    (folder / "prices.json").write_text(json.dumps(PRICES))
    gateway = await serve(pricing={"overrides": str(folder / "prices.json")}, **blocks)
    return gateway, openai.AsyncOpenAI(base_url=f"{gateway.front_url}/v1", api_key="sk-app", max_retries=0)


async def one_record(gateway: Any) -> dict[str, Any]:
    return (await records(gateway.admin_url, 1))[0]


async def test_sound_is_transcribed_and_billed_by_the_second(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """A form with 3 MB of sound arrives as the SDK sent it; $0.006 a minute for 9 seconds are $0.0009."""
    answer = {"text": "Hello.", "usage": {"type": "duration", "seconds": 9}}
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=json.dumps(answer).encode())]
    gateway, client = await start(serve, tmp_path, budgets=[BUDGET | {"limit_usd": "1000"}])
    async with client:
        heard = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND), prompt="Ada")
    assert heard.text == "Hello."
    assert SOUND in (await upstream.request()).body.content
    record = await one_record(gateway)
    assert (record["operation"], record["model_requested"]) == ("transcription", "whisper-1")
    assert (record["usage"], record["usage_source"], record["cost_nanousd"]) == ({"seconds": 9}, "provider", 900_000)
    assert record["held_nanousd"] == -(-len(SOUND) // 500) * 100_000  # a strict hold: as long as such a file can be


async def test_speech_is_billed_by_the_character(upstream: ScriptedUpstream, serve: Serve, tmp_path: Path) -> None:
    """Sound comes back as it was sent; 13 characters at $15 a million."""
    upstream.answer = [response(200, ("Content-Type", "audio/mpeg"), body=SOUND)]
    gateway, client = await start(serve, tmp_path, budgets=[BUDGET])
    async with client:
        spoken = await client.audio.speech.create(model="tts-1", voice="alloy", input="Hello, world!")
        assert spoken.content == SOUND
    record = await one_record(gateway)
    assert (record["operation"], record["usage"], record["usage_source"]) == ("speech", {"characters": 13}, "counted")
    assert (record["cost_nanousd"], record["held_nanousd"]) == (195_000, 195_000)


async def test_images_that_tell_no_tokens_are_billed_by_the_piece(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path
) -> None:
    """Two at $0.07; the hold was the same."""
    answer = {"created": 1, "data": [{"url": "https://x.test/1.png"}, {"url": "https://x.test/2.png"}]}
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=json.dumps(answer).encode())]
    gateway, client = await start(serve, tmp_path, budgets=[BUDGET])
    async with client:
        made = await client.images.generate(model="painter", prompt="A red kite.", n=2)
    assert len(made.data) == 2
    record = await one_record(gateway)
    assert (record["usage"]["images"], record["cost_nanousd"], record["held_nanousd"]) == (2, 140_000_000, 140_000_000)


async def test_a_budget_stops_sound_before_it_is_sent(upstream: ScriptedUpstream, serve: Serve, tmp_path: Path) -> None:
    """3 MB can be 102 minutes of speech: $0.61, and the budget has $0.50."""
    gateway, client = await start(serve, tmp_path, budgets=[BUDGET | {"limit_usd": "0.50"}])
    async with client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND))
    assert refused.value.code == "budget_exceeded"
    assert not upstream.seen
    assert (await one_record(gateway))["cost_nanousd"] == 0
