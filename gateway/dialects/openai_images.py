"""The dialect of ``images/generations`` and ``images/edits``: text and images in, images out, billed by the token.

An answer is megabytes of base64 with its usage at the end, so only that end is parsed. Models that tell no usage are charged
the declared estimate for each image. Source: OpenAI API reference, "Images"; "Image generation", cost and latency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects.beyond import Beyond
from gateway.dialects.form import read_request
from gateway.dialects.values import Json, as_list, as_object, asked, choices, count, note_model, parse
from gateway.dialects.voices import OpenAIVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

SMALL_BYTES = 64 * 1024
MOST_TOKENS = 16_384
"""Of one image, with its partial ones: 6,240 in high quality (OpenAI, "Image generation"), and room for larger sizes to come."""
IMAGE_TOKENS = 1_105


class OpenAIImages(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "images"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """JSON, or a form with the images to edit."""
        root, fault = read_request(body)
        beyond = Beyond()
        for _ in root["files"]:
            beyond.image(0)
        for image in as_list(root.get("images")):
            beyond.image(len(str(as_object(image).get("image_url", ""))))
        return asked(
            self.operation,
            body,
            root,
            fault,
            beyond,
            text_bytes=len(body) - sum(root["files"]),
            choices=choices(root.get("n")),
            images=choices(root.get("n")),
            max_output_tokens=MOST_TOKENS,
        )

    def read(self, document: bytes, reading: Reading) -> None:
        """The body or an event. Only the last event of a stream tells usage; before it come partial images."""
        root = parse(document)[0] if len(document) <= SMALL_BYTES else _tail(document)
        note_model(reading, root)
        usage = root.get("usage")
        if type(usage) is dict:
            reading.usage = usage
            reading.finished = True
        elif "partial_image" not in str(root.get("type", "")):
            reading.images += document.count(b'"b64_json"') + document.count(b'"url"')
            reading.finished = reading.finished or reading.images > 0

    def usage(self, raw: Json) -> Usage | None:
        """Output is images unless its details say that some of it is text."""
        read, written = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
        if read is None and written is None:
            return None
        told_in, told_out = as_object(raw.get("input_tokens_details")), as_object(raw.get("output_tokens_details"))
        image_in = min(count(told_in.get("image_tokens")) or 0, read or 0)
        cached = min(count(told_in.get("cached_tokens")) or 0, (read or 0) - image_in)
        text_out = min(count(told_out.get("text_tokens")) or 0, written or 0)
        return Usage(
            input=(read or 0) - image_in - cached, cached_input=cached, image_in=image_in,
            output=text_out, image_out=(written or 0) - text_out,
        )  # fmt: skip

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int] | None:
        """Images have a price of their own where no tokens are told."""
        return {"images": reading.images, "output": 0} if reading.images and not reading.usage else None

    def prompt(self, body: bytes) -> Iterator[str]:
        """The prompt."""
        prompt = read_request(body)[0].get("prompt")
        if type(prompt) is str and prompt:
            yield prompt

    def framing(self, body: bytes) -> int:
        """A flat number for each image to edit."""
        root, _ = read_request(body)
        return IMAGE_TOKENS * (len(root["files"]) + len(as_list(root.get("images"))))


def _tail(document: bytes) -> Json:
    """The members from the last ``usage`` on; empty when there is none."""
    at = document.rfind(b'"usage"')
    return parse(b"{" + document[at:])[0] if at > 0 else {}
