"""Images: forms with files, what is set aside for them, and streams whose events are megabytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.beyond import IMAGE_MOST_TOKENS
from gateway.dialects.form import MAX_FIELD_BYTES, read_form
from gateway.dialects.openai_images import IMAGE_TOKENS, MOST_TOKENS, OpenAIImages
from gateway.metering.tap import Tap

IMAGES = OpenAIImages()


def form(*parts: tuple[str, bytes], boundary: bytes = b"--x1") -> bytes:
    """RFC 7578; a name that ends in ``@`` is a file."""
    written = []
    for name, value in parts:
        file = '; filename="a.png"\r\nContent-Type: image/png' if name.endswith("@") else ""
        head = f'Content-Disposition: form-data; name="{name.rstrip("@")}"{file}'
        written.append(boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n")
    return b"".join(written) + boundary + b"--\r\n"


EDIT = form(("model", b"gpt-image-1"), ("prompt", b"Add a hat."), ("n", b"2"), ("image[]@", b"P" * 900), ("image[]@", b"Q" * 100))  # fmt: skip


def test_an_edit_is_read_from_its_form() -> None:
    """Model, number, files; the files' bytes are no text."""
    ask = IMAGES.ask(EDIT)
    assert (ask.model, ask.choices, ask.stream, ask.fault) == ("gpt-image-1", 2, False, "")
    assert (ask.extra_tokens, ask.media_bytes) == (2 * IMAGE_MOST_TOKENS, 0)
    assert ask.max_output_tokens == MOST_TOKENS
    assert list(IMAGES.prompt(EDIT)) == ["Add a hat."]
    assert IMAGES.framing(EDIT) == 2 * IMAGE_TOKENS
    assert IMAGES.ask(form(("model", b"m"), ("stream", b"true"))).stream


def test_a_body_says_nothing_of_files_that_it_does_not_hold() -> None:
    """``files`` is our own word, not the caller's."""
    body = b'{"model":"m","prompt":"p","files":[5,5]}'
    assert IMAGES.ask(body).extra_tokens == 0
    assert IMAGES.framing(form(("files", b"5"))) == 0


@given(
    st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}@?", fullmatch=True), st.binary(max_size=60)), max_size=6, unique_by=lambda part: part[0])
)  # fmt: skip
def test_every_field_and_file_of_a_form_is_found(parts: list[tuple[str, bytes]]) -> None:
    """Whatever bytes they hold, line ends and dashes included."""
    if any(b"--x1" in value for _, value in parts):
        return
    found = read_form(form(*parts))
    assert found is not None
    assert found.files == [len(value) for name, value in parts if name.endswith("@")]
    assert found.fields == {name: value.decode("utf-8", "replace") for name, value in parts if not name.endswith("@")}


@pytest.mark.parametrize("body", [b"", b"{}", b"--", b"--x", b"\r\n", b"-" * 5000, b"model=gpt&prompt=x"])
def test_what_is_no_form_is_none(body: bytes) -> None:
    """Then it is JSON, or nobody can read it."""
    assert read_form(body) is None


def test_a_form_that_is_cut_off_gives_what_was_whole() -> None:
    """A part without its end is left out; a field that is a novel is not kept."""
    found = read_form(EDIT[:-60])
    assert found is not None
    assert found.fields["model"] == "gpt-image-1"
    huge = read_form(form(("prompt", b"x" * (MAX_FIELD_BYTES + 1))))
    assert huge is not None
    assert huge.fields == {}


def test_an_event_of_megabytes_is_read_for_its_usage() -> None:
    """An image in base64 is one event of a stream."""
    usage = {"input_tokens": 13, "output_tokens": 4160}
    event = {"type": "image_generation.completed", "b64_json": "A" * 3_000_000, "usage": usage}
    stream = b"data: " + json.dumps(event).encode() + b"\n\n"
    tap = Tap(IMAGES, True, "")
    for at in range(0, len(stream), 65_536):
        tap.feed(stream[at : at + 65_536])
    reading = tap.finish()
    assert (reading.usage, reading.finished) == (usage, True)
