"""The provider of the benchmarks: answers at once, or streams at a pace. A bare protocol, so that it is not what is measured.

``python upstream.py PORT``. Any POST gets a JSON answer of about 1 KB with usage; one whose body holds ``"stream":true``
gets an event stream. The header ``x-bench: events=50;pace_ms=0`` says how long and how fast; each event carries the moment
of its sending (monotonic clock, nanoseconds), which is the same clock for all processes of a machine.
"""

import asyncio
import json
import sys
import time

WORDS = "word " * 150
USAGE = {"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
BODY = json.dumps(
    {"id": "chatcmpl-b", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [CHOICE], "usage": USAGE}
).encode()
WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nx-request-id: req-b\r\n\r\n"
    % len(BODY)
    + BODY
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"chatcmpl-b","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],"sent":%d}\n\n'
LAST = b'data: {"id":"chatcmpl-b","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}}\n\ndata: [DONE]\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        self.task = None

    def connection_lost(self, error):
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            chunked = b"transfer-encoding: chunked" in head
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if chunked:
                size = self.buffer.find(b"0\r\n\r\n", end) + 5 - end - 4
                if size <= 0:
                    return
            if len(self.buffer) < end + 4 + size:
                return
            body = self.buffer[end + 4 : end + 4 + size]
            self.buffer = self.buffer[end + 4 + size :]
            if b'"stream":true' in body or b'"stream": true' in body:
                self.stream(head)
            else:
                self.transport.write(WHOLE)

    def stream(self, head: bytes) -> None:
        wish = dict(
            part.split(b"=") for part in head.partition(b"x-bench: ")[2].split(b"\r\n")[0].split(b";") if b"=" in part
        )
        events, pace = int(wish.get(b"events", 50)), int(wish.get(b"pace_ms", 0)) / 1000
        self.task = asyncio.get_running_loop().create_task(self.send(events, pace))

    async def send(self, events: int, pace: float) -> None:
        write = self.transport.write
        write(HEAD)
        for _ in range(events):
            write(chunk(EVENT % time.monotonic_ns()))
            await asyncio.sleep(pace)
        write(chunk(LAST) + b"0\r\n\r\n")


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
