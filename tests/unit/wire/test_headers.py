"""wire/headers: what travels, what does not, and how heads are written."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.identity import FIELDS
from gateway.call import Headers
from gateway.wire import headers as of_headers
from gateway.wire.headers import MEANT, OURS, names_token, noted

PLAIN = {"host": b"up.example", "credential": None, "length": None}


def request_head(method: str, target: bytes, headers: Headers, **told: Any) -> bytes:
    return of_headers.request_head(method, target, headers, noted(headers), **told)


def response_head(status: int, reason: bytes, headers: Headers, **told: Any) -> bytes:
    return of_headers.response_head(status, reason, headers, noted(headers), **told)


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_fields_keep_their_order_case_bytes_and_duplicates():
    """What is on no list goes through as it came."""
    headers = ((b"X-B", b"1"), (b"x-b", b"\xff\xfe"), (b"X-B", b""), (b"Host", b"gateway"), (b"Accept", b"*/*"))
    start, *fields = lines(request_head("POST", b"/v1/a%2Fb//..?q=", headers, **PLAIN))
    assert start == b"POST /v1/a%2Fb//..?q= HTTP/1.1"
    assert fields[:5] == [b"X-B: 1", b"x-b: \xff\xfe", b"X-B: ", b"Host: up.example", b"Accept: */*"]


def test_host_is_replaced_in_its_place():
    """The upstream gets its own name, where the client had written the gateway's, or first where it had written none."""
    head = request_head("GET", b"/", ((b"A", b"1"), (b"HOST", b"gateway"), (b"B", b"2")), **PLAIN)
    assert lines(head)[1:4] == [b"A: 1", b"HOST: up.example", b"B: 2"]
    assert lines(request_head("GET", b"/", ((b"A", b"1"),), **PLAIN))[1:3] == [b"Host: up.example", b"A: 1"]


def test_hop_by_hop_fields_and_those_named_by_connection_stay_here():
    """RFC 9110 7.6.1, both the known ones and the named ones."""
    headers = (
        (b"Connection", b"keep-alive, X-Secret"),
        (b"X-Secret", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"close"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"Basic x"),
        (b"Expect", b"100-continue"),
        (b"X-Tollgate-Team", b"search"),
        (b"X-Kept", b"1"),
    )
    head = request_head("POST", b"/", headers, **PLAIN)
    assert lines(head)[1:] == [b"Host: up.example", b"X-Kept: 1", b"Via: 1.1 tollgate"]


def test_connection_cannot_name_framing_away():
    """A field that every recipient needs survives being listed."""
    headers = ((b"Connection", b"content-length, host"), (b"Content-Length", b"3"), (b"Host", b"x"))
    head = request_head("POST", b"/", headers, **PLAIN)
    assert b"Content-Length: 3" in lines(head)
    assert b"Host: up.example" in lines(head)


def test_a_configured_credential_replaces_whatever_the_caller_sent():
    """No caller's key goes to a provider beside ours, in whichever header it came."""
    headers = ((b"Authorization", b"Bearer theirs"), (b"X-Api-Key", b"theirs"), (b"api-key", b"theirs"))
    head = request_head("POST", b"/", headers, host=b"h", credential=(b"Authorization", b"Bearer ours"), length=None)
    assert b"theirs" not in head
    assert lines(head).count(b"Authorization: Bearer ours") == 1


def test_a_chunked_upload_that_was_read_whole_gets_a_length():
    """The framing is of this hop; the body is the same."""
    headers = ((b"Transfer-Encoding", b"chunked"),)
    assert b"Content-Length: 7" in lines(request_head("POST", b"/", headers, host=b"h", credential=None, length=7))
    assert b"Transfer-Encoding: chunked" in lines(
        request_head("POST", b"/", headers, host=b"h", credential=None, length=-1)
    )


def test_te_trailers_is_asked_for_again_on_this_hop():
    """RFC 9110 10.1.4: TE is hop-by-hop and needs its name in Connection."""
    head = request_head("GET", b"/", ((b"TE", b"trailers, deflate"),), **PLAIN)
    assert lines(head)[2:4] == [b"TE: trailers", b"Connection: TE"]


def test_an_upgrade_keeps_its_handshake_fields():
    """WebSocket (RFC 6455 4.1): Upgrade and Connection are written anew, the rest goes through."""
    headers = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Key", b"abc="))
    head = request_head("GET", b"/", headers, host=b"h", credential=None, length=None, upgrade=True)
    assert {b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: abc="} <= set(lines(head))


def test_a_chunked_answer_keeps_the_place_of_its_coding():
    """Transfer-Encoding stands where the upstream had it."""
    head = response_head(
        200, b"OK", ((b"A", b"1"), (b"Transfer-Encoding", b"chunked"), (b"B", b"2")), chunked=True, close=False
    )
    assert lines(head) == [b"HTTP/1.1 200 OK", b"A: 1", b"Transfer-Encoding: chunked", b"B: 2"]


def test_our_fields_come_last_and_close_is_said():
    """The provider's fields first, as they came; then what the gateway has to say."""
    head = response_head(
        299, b"Odd  Reason", ((b"Connection", b"close, X-Hop"), (b"X-Hop", b"1"), (b"ETag", b'"x"')),
        chunked=False, close=True, extra=((b"x-tollgate-call-id", b"7"),),
    )  # fmt: skip
    assert lines(head) == [b"HTTP/1.1 299 Odd  Reason", b'ETag: "x"', b"x-tollgate-call-id: 7", b"Connection: close"]


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)


@given(st.lists(TOKEN, min_size=1, max_size=5), st.integers(0, 4), st.sampled_from([b"", b" ", b"\t "]))
def test_a_token_is_found_whatever_the_spacing_and_case(tokens, index, space):
    """Comma-separated lists are compared token by token, never as substrings."""
    wanted = tokens[index % len(tokens)]
    value = (b"," + space).join(token.upper() for token in tokens)
    assert names_token(noted(((b"Connection", value),)), b"connection", wanted)
    assert not names_token(noted(((b"Connection", value),)), b"connection", wanted + b"x" * 13)


def test_what_says_who_asks_is_noted():
    """What is not meant would be lost before it is read."""
    assert {name for name in FIELDS if not name.startswith(OURS)} <= MEANT


@given(st.lists(st.tuples(st.sampled_from([b"Host", b"HOST", b"X-Tollgate-Team", b"x-other", b"TE"]), TOKEN)))
def test_a_note_holds_what_a_scan_would_find(headers):
    """By name, in whichever spelling, in order; and nothing else."""
    meant = (b"host", b"x-tollgate-team", b"te")
    scanned = {name: [value for field, value in headers if field.lower() == name] for name in meant}
    assert noted(headers) == {name: values for name, values in scanned.items() if values}


def test_spellings_are_not_remembered_without_end():
    """They come from callers."""
    for number in range(5000):
        noted(((b"X-%d" % number, b""), (b"x" * 100 + b"%d" % number, b"")))
        noted(((b"Connection", b"x-%d" % number + b"y" * 100),))
    assert len(of_headers._names) <= of_headers.MAX_SPELLINGS
    assert all(len(spelling) <= of_headers.MAX_SPELLING for spelling in of_headers._names)
    assert noted(((b"x-tOLLGATE-tEAM", b"a"),)) == {b"x-tollgate-team": [b"a"]}
