"""The rows of the wire matrix: methods, targets, fields, bodies and answers that a gateway must not touch.

Owns examples and nothing else; each is as small as it can be and still break a proxy that somebody has written.
"""

from __future__ import annotations

import gzip
import hashlib

import brotli
from backports import zstd

from tests.harness.messages import chunked, request, response
from tests.harness.scripted import End, Script

PLAIN = response(200, ("Content-Type", "text/plain"), body=b"answer")
JSON = b'{"id":"x","object":"chat.completion","choices":[]}'
BINARY = bytes(range(256)) * 64
CHAT = b'{ "model":"gpt-4o-mini",\n "messages":[{"role":"user","content":"h\\u00e9 \xc3\xa9"}] , "x":1e2 }'
BOUNDARY = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + BINARY + b"\r\n--b--\r\n"
FORM = ("Content-Type", "multipart/form-data; boundary=b")

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "PURGE", "LINK")
TARGETS = {
    "plain": "/v1/models",
    "root": "/",
    "percent-encoded slash": "/v1/models/a%2Fb",
    "percent-encoded lower case": "/v1/models/%e4%bd%a0",
    "needlessly encoded": "/v1/%6d%6Fdels",
    "encoded percent": "/v1/%2525",
    "double slash": "/v1//models//",
    "dots": "/v1/a/../models/./x/..",
    "encoded dots": "/v1/%2e%2e/models",
    "empty query": "/v1/models?",
    "only question marks": "/v1/models???",
    "odd query": "/v1/models?a&b=&=c&&a=1;b=2&a[]=1&x=%zz&y=%",
    "plus and space": "/v1/models?q=a+b%20c",
    "semicolon": "/v1/models;v=1?x;y",
    "url in query": "/v1/models?u=http://other.test/?a=b#",
    "sub-delimiters": "/v1/!$&'()*+,;=:@~_-.",
    "quotes and braces": '/v1/"<>\\^`{|}',
    "very long": "/v1/models?" + "q=0123456789abcdef&" * 1000,
}
FIELDS: dict[str, tuple[tuple[str | bytes, str | bytes], ...]] = {
    "duplicates": (("X-A", "1"), ("X-A", "2"), ("X-B", "3"), ("X-A", "1")),
    "duplicates that differ in case": (("X-Same", "1"), ("x-same", "2"), ("X-SAME", "3")),
    "odd case": (("aUTHORIZATION", "Bearer sk-1"), ("x-API-key", "k"), ("USER-agent", "me/1"), ("aCCept", "*/*")),
    "a hundred": tuple((f"X-Number-{each}", str(each)) for each in range(100)),
    "empty values": (("X-Empty", ""), ("X-Also-Empty", ""), ("Accept", "")),
    "inner white space": (("X-Space", "a  b\tc   d"),),
    "outer white space": (("X-Outer", "  a\t "),),
    "non-ASCII bytes": (("X-Latin", b"caf\xe9"), ("X-Utf8", "日本".encode()), ("X-High", bytes(range(0x80, 0x100)))),
    "long": (("X-Long", "v" * 8000),),
    "punctuation in names": (("X!#$%&'*+-.^_`|~9", "1"),),
    "commas and quotes": (("X-List", 'a, "b, c", d=";"'), ("Cookie", "a=1; b=2"), ("Cookie", "c=3")),
    "conditions and ranges": (("If-None-Match", 'W/"x"'), ("Range", "bytes=0-1"), ("Accept-Encoding", "gzip, br;q=0")),
    "forwarding": (("Via", "1.0 fred"), ("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")),
    "tracing": (("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"), ("x-request-id", "r1")),
    "correlation": (("X-Correlation-Id", "c1"),),
    "ours": (("X-Tollgate-Team", "search"), ("x-tollgate-user", "u"), ("X-TOLLGATE-Whatever", "1")),
    "hop by hop": (
        ("Connection", "keep-alive, X-Secret, x-other"),
        ("X-Secret", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Other", "2"),
        ("X-Stays", "3"),
        ("TE", "gzip"),
        ("Proxy-Authorization", "Basic eDp5"),
    ),
}
BODIES: dict[str, bytes] = {
    "empty": request("POST", "/v1/chat/completions"),
    "JSON": request("POST", "/v1/chat/completions", ("Content-Type", "application/json"), body=CHAT),
    "multipart": request("POST", "/v1/audio/transcriptions", FORM, body=BOUNDARY),
    "binary": request("PUT", "/v1/files/x", ("Content-Type", "application/octet-stream"), body=BINARY),
    "compressed": request(
        "POST", "/v1/chat/completions", ("Content-Encoding", "gzip"), body=gzip.compress(CHAT, mtime=0)
    ),
    "a body on GET": request("GET", "/v1/models", body=b"why not"),
    "a body on DELETE": request("DELETE", "/v1/files/x", body=b"{}"),
    "a megabyte": request("POST", "/v1/files", body=BINARY * 64),
    "a megabyte of JSON": request(
        "POST", "/v1/chat/completions", body=b'{"model":"m","x":"' + b"y" * (1 << 20) + b'"}'
    ),
    "chunked": request("PUT", "/v1/files/x", ("Transfer-Encoding", "chunked")).replace(b"Content-Length: 0\r\n", b"")
    + chunked(b"a", BINARY, b"z" * 100_000),
    "chunked JSON": request("POST", "/v1/chat/completions", ("Transfer-Encoding", "chunked")).replace(
        b"Content-Length: 0\r\n", b""
    )
    + chunked(CHAT[:1], CHAT[1:20], CHAT[20:]),
    "chunked with extensions and trailers": request("PUT", "/v1/files", ("Transfer-Encoding", "chunked")).replace(
        b"Content-Length: 0\r\n", b""
    )
    + b'3;a=b;c="d"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n',
}
LONG = hashlib.sha256(b"seed").digest() * 5000
COMPRESSED = {
    "gzip": gzip.compress(JSON * 50, mtime=0),
    "br": brotli.compress(JSON * 50),
    "zstd": zstd.compress(JSON * 50),
}
HEADS_AND_BODIES: dict[str, Script] = {
    "201": [response(201, ("Location", "/v1/x"), reason="Created", body=b"{}")],
    "204": [response(204, ("X-A", "1"), reason="No Content", body=None)],
    "304": [response(304, ("ETag", '"x"'), reason="Not Modified", body=None)],
    "304 with a length": [b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 100\r\n\r\n'],
    "205": [response(205, reason="Reset Content")],
    "206": [response(206, ("Content-Range", "bytes 0-1/9"), reason="Partial Content", body=b"ab")],
    "301": [response(301, ("Location", "http://other.test/a?b#c"), reason="Moved Permanently")],
    "302 relative": [response(302, ("Location", "../x"), reason="Found", body=b"moved")],
    "307": [response(307, ("Location", "/v1/y"), reason="Temporary Redirect")],
    "400": [
        response(400, ("Content-Type", "application/json"), reason="Bad Request", body=b'{"error":{"message":"no"}}')
    ],
    "401": [response(401, ("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "Basic"), reason="Unauthorized")],
    "404 as HTML": [response(404, ("Content-Type", "text/html"), reason="Not Found", body=b"<h1>no</h1>")],
    "429": [response(429, ("retry-after", "7"), ("x-should-retry", "true"), reason="Too Many Requests", body=JSON)],
    "500": [response(500, reason="Internal Server Error", body=b"oops")],
    "503": [response(503, ("Retry-After", "120"), reason="Service Unavailable", body=b"later")],
    "529": [response(529, ("Content-Type", "application/json"), reason="", body=b'{"type":"error"}')],
    "299": [response(299, reason="Odd", body=b"x")],
    "599": [response(599, reason="Odd Too", body=b"x")],
    "no reason": [b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"],
    "odd reason": [response(200, reason=b"It's \xe9 (fine); 100%", body=b"ok")],
    "102 and 103": [
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n",
        PLAIN,
    ],
    "100 unasked": [b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN],
    "duplicate fields": [response(200, ("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("Set-Cookie", "a=1"), body=b"x")],
    "a hundred fields": [response(200, *((f"X-N-{each}", "v" * each) for each in range(100)), body=b"x")],
    "empty and non-ASCII fields": [response(200, ("X-E", ""), ("X-L", b"\xe9\xff"), ("X-S", "a \t b"), body=b"x")],
    "correlation of the provider": [response(200, ("x-correlation-id", "theirs"), ("x-request-id", "r"), body=b"x")],
    "date and server": [response(200, ("Server", "up/1"), ("Date", "Sat, 01 Aug 2026 00:00:00 GMT"), body=b"x")],
    "no fields at all": [b"HTTP/1.1 200 OK\r\n\r\nto the end", End.CLOSE],
    "hop by hop": [
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nX-Stays: 1\r\n",
        b"Proxy-Connection: close\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
    ],
    "gzip": [
        response(200, ("Content-Encoding", "gzip"), ("Content-Type", "application/json"), body=COMPRESSED["gzip"])
    ],
    "br": [response(200, ("Content-Encoding", "br"), ("Content-Type", "application/json"), body=COMPRESSED["br"])],
    "zstd": [
        response(200, ("Content-Encoding", "zstd"), ("Content-Type", "application/json"), body=COMPRESSED["zstd"])
    ],
    "a lie about gzip": [response(200, ("Content-Encoding", "gzip"), ("Content-Type", "application/json"), body=b"{}")],
    "compressed and chunked": [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunked(*(COMPRESSED["gzip"][each : each + 7] for each in range(0, len(COMPRESSED["gzip"]), 7))),
    ],
    "trailers": [
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Other\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunked(b"abc", b"def", trailers=b"X-Sum: 6\r\nX-OTHER: \xe9\r\nX-Sum: 7\r\n"),
    ],
    "chunk extensions": [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x="y"\r\nabc\r\n0;z\r\n\r\n'],
    "odd coding case": [b"HTTP/1.1 200 OK\r\ntransfer-ENCODING: Chunked\r\n\r\n" + chunked(b"abc")],
    "empty chunked": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked()],
    "byte by byte": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(b"1\r\n%c\r\n" % each for each in JSON),
        chunked(),
    ],
    "head byte by byte": [bytes([each]) for each in PLAIN],
    "a megabyte in one chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BINARY * 64)],
    "mixed chunks": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunked(*(LONG[:size] for size in (1, 2, 3, 63, 64, 65, 1000, 4096, 65535, 65536, 65537, 150_000))),
    ],
    "a megabyte with a length": [response(200, body=BINARY * 64)],
    "to the end of the connection": [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"ab", b"cd", End.CLOSE],
    "connection closed with a length": [response(200, ("Connection", "close"), body=b"x"), End.CLOSE],
    "HTTP/1.0 with a length": [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", End.CLOSE],
    "HTTP/1.0 to the end": [b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\n" + LONG, End.CLOSE],
    "HTTP/1.0 kept alive": [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"],
    "cut short of its length": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 60, End.CLOSE],
    "cut between chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", End.CLOSE],
    "cut within a chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc", End.CLOSE],
}
