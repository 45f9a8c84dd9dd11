"""The close frame with which the gateway ends a session."""

from __future__ import annotations

import pytest

from gateway.wire.websocket import close_frame


@pytest.mark.parametrize(
    ("reason", "said"),
    [("", ""), ("budget", "budget"), ("x" * 200, "x" * 123), ("\N{SNOWMAN}" * 60, "\N{SNOWMAN}" * 41)],
)
def test_a_reason_fits_into_a_control_frame(reason: str, said: str) -> None:
    """RFC 6455 5.5: 125 bytes with the code, and no half a character."""
    frame = close_frame(1008, reason)
    assert frame[0] == 0x88
    assert frame[1] == len(frame) - 2 <= 125
    assert int.from_bytes(frame[2:4], "big") == 1008
    assert frame[4:].decode() == said
