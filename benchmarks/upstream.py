"""The provider of the benchmarks: answers at once, or streams at a pace. A bare protocol, so that it is not what is measured.

``python upstream.py PORT [TLS_PORT CERTIFICATE KEY]``. Any POST gets a JSON answer of about 1 KB with usage, one to ``.../embeddings``
one of about 30 KB; one whose body holds ``"stream":true`` gets an event stream. The header ``x-bench: events=50;pace_ms=0`` says how
long and how fast; each event carries the moment of its sending (monotonic clock, nanoseconds), which is the same clock for all
processes of a machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import ssl
import sys
import time

from load import quick_loop

WORDS = "word " * 150
USAGE = {"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
BODY = json.dumps(
    {"id": "chatcmpl-b", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [CHOICE], "usage": USAGE}
).encode()
FLOATS = [round(random.Random(number).uniform(-0.1, 0.1), 16) for number in range(1536)]
VECTOR = {"object": "embedding", "index": 0, "embedding": FLOATS}
EMBEDDING = json.dumps(
    {"object": "list", "data": [VECTOR], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 200, "total_tokens": 200}}
).encode()  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"chatcmpl-b","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" %d"},"finish_reason":null}]}\n\n'
"""As providers write them: the same but for the text, which says here when it was written."""
LAST = b'data: {"id":"chatcmpl-b","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}}\n\ndata: [DONE]\n\n'


def whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nx-request-id: req-b\r\n\r\n"
    return head % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHAT_ANSWER, EMBEDDING_ANSWER = whole(BODY), whole(EMBEDDING)


class Provider(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport):
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.timer = None

    def connection_lost(self, exc):
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data):
        self.buffer = self.buffer + data if self.buffer else data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if b"transfer-encoding: chunked" in head:
                size = self.buffer.find(b"0\r\n\r\n", end) + 5 - end - 4
                if size <= 0:
                    return
            if len(self.buffer) < end + 4 + size:
                return
            body = self.buffer[end + 4 : end + 4 + size]
            self.buffer = self.buffer[end + 4 + size :]
            if b'"stream":true' in body[:200] or b'"stream": true' in body:
                self.stream(head)
            else:
                self.transport.write(EMBEDDING_ANSWER if b"/embeddings " in head[:60] else CHAT_ANSWER)

    def stream(self, head: bytes) -> None:
        wish = head.partition(b"x-bench: ")[2].split(b"\r\n")[0]
        numbers = dict(part.split(b"=") for part in wish.split(b";") if b"=" in part)
        self.transport.write(HEAD)
        self.send(int(numbers.get(b"events", 50)), int(numbers.get(b"pace_ms", 0)) / 1000)

    def send(self, events: int, pace: float) -> None:
        """One event, and a timer for the next. Those without a pace come one a turn of the loop."""
        if events:
            self.transport.write(chunk(EVENT % time.monotonic_ns()))
            self.timer = self.loop.call_later(pace, self.send, events - 1, pace)
        else:
            self.timer = None
            self.transport.write(chunk(LAST) + b"0\r\n\r\n")


async def serve(port: int, *secure: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", port, backlog=4096)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*secure[1:])
        await loop.create_server(Provider, "127.0.0.1", int(secure[0]), backlog=4096, ssl=context)
    gc.freeze()
    gc.disable()
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=quick_loop) as runner:
        runner.run(serve(int(sys.argv[1]), *sys.argv[2:]))
