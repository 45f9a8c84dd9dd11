"""What was said in a call, as messages in OpenTelemetry's form: for those who asked to see it, never otherwise.

Reads a request of any of the dialects here by the names under which they keep messages. Quiet; never raises on what a client
sent. Pictures, sound and files are left out: only that there was one is told. Source: semantic conventions 1.41.1,
"gen_ai.input.messages" and "gen_ai.output.messages".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects import prompts
from gateway.dialects.values import Json, as_list, as_object, name, parse

if TYPE_CHECKING:
    from gateway.dialects import Reading

SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction")
TURNS = ("messages", "input", "contents", "prompt", "content")
"""Where a request keeps what is said to the model before all, and the turns of the conversation."""
CUT = "…"
FRAME = 32
"""Characters that a message, or a part of one, is taken to have around its texts."""
MARGIN = 4096
"""Characters beyond what is shown that are searched too: longer than a key or a name, which must not be shown by half."""
Redact = Callable[[str], str]


def asked(body: bytes, redact: Redact, most_chars: int) -> str:
    """The request's messages as JSON. The newest are kept whole as long as there is room; what is cut ends with an ellipsis,
    and what is older is left out. Texts are searched no further than they can be shown.
    """
    root, fault = parse(body)
    if fault:
        return "[]"
    return _written(map(_message, reversed(list(_turns(root)))), redact, most_chars)


def answered(reading: Reading, redact: Redact, most_chars: int) -> str:
    """The answer as JSON: one message with all that the model wrote."""
    text = "".join(reading.text)
    if not text:
        return "[]"
    reason = "stop" if reading.finished else "error"
    message = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": reason}
    return _written([message], redact, most_chars)


def _turns(root: Json) -> Iterator[Json]:
    """All that was said to the model, the oldest first, as the request has it."""
    for key in SYSTEM:
        if text := "\n".join(_in_order(root.get(key))):
            yield {"role": "system", "content": text}
    for key in TURNS:
        turns = root.get(key)
        for turn in turns if type(turns) is list else [turns]:
            if type(turn) is str:
                yield {"content": turn}
            elif type(turn) is dict:
                yield turn


def _message(turn: Json) -> Json:
    role = name(turn.get("role")) or "user"
    parts = list(_parts(turn.get("content", turn.get("parts"))))
    parts += [_tool_call(call) for call in as_list(turn.get("tool_calls")) if type(call) is dict]
    if turn.get("type") in ("function_call", "function_call_output"):
        parts += list(_parts([turn]))
    if role == "tool":
        content = "".join(str(part.get("content", "")) for part in parts)
        parts = [{"type": "tool_call_response", "id": name(turn.get("tool_call_id")), "response": content}]
    return {"role": {"model": "assistant"}.get(role, role), "parts": parts}


def _parts(content: Any) -> Iterator[Json]:
    for part in content if type(content) is list else [content]:
        if type(part) is str:
            yield {"type": "text", "content": part}
        elif type(part) is dict:
            yield _part(part)


def _part(part: Json) -> Json:
    kind = name(part.get("type"))
    if kind in prompts.MEDIA_PARTS or any(
        key in part for key in ("inlineData", "inline_data", "fileData", "file_data")
    ):
        return {"type": "blob", "modality": kind or "file"}
    call = part.get("functionCall") or part.get("function_call")
    if kind in ("tool_use", "function_call") or type(call) is dict:
        return _tool_call(part if call is None else call)
    response = as_object(part.get("functionResponse") or part.get("function_response"))
    if kind in ("tool_result", "function_call_output") or response:
        told = response.get("response", part.get("content", part.get("output")))
        identity = part.get("tool_use_id") or part.get("call_id") or response.get("name")
        return {"type": "tool_call_response", "id": name(identity), "response": "\n".join(_in_order(told))}
    return {"type": "text", "content": "\n".join(_in_order(part))}


def _tool_call(call: Json) -> Json:
    function = as_object(call.get("function")) or call
    arguments = function.get("arguments", function.get("input", function.get("args")))
    text = arguments if type(arguments) is str else prompts.json_text(arguments)
    identity = name(call.get("id") or call.get("call_id"))
    return {"type": "tool_call", "id": identity, "name": name(function.get("name")), "arguments": text}


def _in_order(value: Any) -> list[str]:
    """The texts below a value: the walk of ``prompts`` promises no order, and gives the last first."""
    return list(prompts.texts(value))[::-1]


def _written(newest_first: Iterable[Json], redact: Redact, most_chars: int) -> str:
    """The newest first, until there is no room; then the rest as far as it goes."""
    left = most_chars
    messages: list[Json] = []
    for message in newest_first:
        left -= FRAME + len(message["role"])
        if left <= 0 and messages:
            break
        kept: list[Json] = []
        for part in message["parts"]:
            if left <= 0 and kept:
                break
            left = _fit(part, redact, left)
            kept.append(part)
        messages.append(message | {"parts": kept})
    return orjson.dumps(messages[::-1]).decode()


def _fit(part: Json, redact: Redact, room: int) -> int:
    """Makes a part as long as there is room for it; gives the room that is left."""
    room -= FRAME + len(part.get("id", "")) + len(part.get("name", ""))
    for key in ("content", "response", "arguments"):
        if type(part.get(key)) is str:
            part[key] = _bounded(part[key], redact, max(0, room))
            room -= len(part[key])
    return room


def _bounded(text: str, redact: Redact, most: int) -> str:
    if len(text) > most + MARGIN:
        text = redact(text[: most + MARGIN])[:-MARGIN] + CUT if most else CUT
    else:
        text = redact(text)
    return text if len(text) <= most else text[:most].removesuffix(CUT) + CUT
