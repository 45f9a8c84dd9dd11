"""The promise of a dialect: six questions about bytes, answered without I/O, clock or await.

1. *What is asked?* ``ask(body)``
2. *What was used?* ``read(document, reading)`` for the JSON body or for each event of a stream, then ``usage(raw)``
3. *What text would we count?* ``prompt(body)`` with ``framing(body)``, and ``Reading.text`` for what came back
4. *What is billed that is no text, when nobody tells?* ``unsaid(ask, reading)``
5. *How do we say no?* ``refuse(refusal)``, and ``interrupt(refusal)`` in the middle of an event stream
6. *Where does the credential go?* ``credential(secret)``

One file a dialect; the table from (protocol of the upstream, path) to dialect is ``table.py``. A dialect never raises on
what a client or a provider sent: what it cannot read it leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gateway.dialects.repeated import Form, learn
from gateway.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.call import Ask
    from gateway.errors import Refusal
    from pricing.usage import Usage


@value
class Work:
    """Work of the provider's that an answer tells of and that has a bill of its own: a batch, a background response, the
    transcript in a realtime session. ``key`` is what the provider calls it; ``usage`` its own object, or the sum of several.
    """

    key: str
    operation: str
    model: str
    usage: dict[str, Any]
    service_tier: str = ""
    largest_input: int = 0
    """See ``Metered``."""


@dataclass(slots=True)
class Reading:
    """What has been learned from an answer so far. Grows event by event; holds no event itself.

    ``usage`` is the provider's own object, the latest seen (cumulative counts replace earlier ones). ``text`` collects what
    the model wrote, tool arguments and reasoning included, for the case that nobody else counts it.
    """

    model: str = ""
    service_tier: str = ""
    usage: dict[str, Any] | None = None
    text: list[str] = field(default_factory=list)
    text_chars: int = 0
    text_bytes: int = 0
    """The same in UTF-8: what is guessed at in tokens while it is being written. Scripts with more bytes a character have more
    tokens a character."""
    form: Form | None = None
    """Of a delta: the next ones most likely look the same."""
    deltas: int = 0
    images: int = 0
    """Images that came without a word on their usage."""
    searches: int = 0
    """That the answer shows and its usage does not tell."""
    sound_bytes: int = 0
    """Of an answer that is being spoken."""
    last_input: int = 0
    """Tokens that the last of several responses has read."""
    largest_input: int = 0
    """See ``Metered``."""
    second_model: str = ""
    """The model that writes down what the first one hears."""
    finished: bool = False
    """The provider said that the answer is whole."""
    id: str = ""
    """What the provider calls an answer that can be fetched later."""
    works: dict[str, Work] = field(default_factory=dict)
    """By key; the last word on one counts."""

    def note_form(self, document: bytes, key: bytes, text: str, event: bytes = b"") -> None:
        """Learn from a delta that was parsed what the next ones look like: the first that tells it, and then one in 64."""
        self.deltas += 1
        if self.form is None or self.deltas % 64 == 1:
            self.form = learn(document, key, text, event)


class Dialect(Protocol):
    """See the module's docstring."""

    @property
    def operation(self) -> str:
        """chat, text_completion, responses, embeddings, messages, ...: the name in records and metrics."""

    @property
    def metered(self) -> bool:
        """False for what is forwarded without being understood; then ``ask`` gets no body and nothing is buffered."""

    @property
    def follows(self) -> bool:
        """True where answers tell of other work (``Reading.works``); they are read, and are free themselves."""

    @property
    def lines(self) -> bool:
        """True where an answer is JSON lines."""

    def ask(self, body: bytes) -> Ask:
        """What is asked for. One parse; a body that cannot be read gives an Ask with a ``fault``."""

    def read(self, document: bytes, reading: Reading) -> None:
        """Learn from one JSON document: the whole body, or the data of one event."""

    def usage(self, raw: dict[str, Any]) -> Usage | None:
        """The provider's usage object as counts that do not overlap; None when it does not hold any."""

    def prompt(self, body: bytes) -> Iterable[str]:
        """The texts of the request that a provider would bill as input."""

    def framing(self, body: bytes) -> int:
        """The tokens of the request that are no text: framing of messages, token ids, a flat number for each image."""

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int] | None:
        """Fields of Usage that replace what was counted of the text: images, sound, characters. None where all is text."""

    def refuse(self, refusal: Refusal) -> bytes:
        """The error body in this dialect (JSON)."""

    def interrupt(self, refusal: Refusal) -> bytes:
        """The same as the last event of a stream that we end."""

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """The header (name, value) that carries the provider's key."""
