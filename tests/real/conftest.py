"""Servers that nobody here wrote: llama.cpp's own, with a model of random weights that is made on the spot."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

LAYERS, WIDTH, INNER, HEADS = 2, 64, 128, 4
CONTEXT = 2048
SERVE = """
import sys, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.hostnames, settings.port = sys.argv[1], ["127.0.0.1"], 0
settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = int(sys.argv[2]), 2, 1
settings.embedding, settings.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(settings)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
"""A process of its own, because the server lives in C++ threads; it ends when its standard input does."""


def _alphabet() -> list[str]:
    """The 256 bytes as GPT-2's vocabulary writes them: what cannot be printed stands 256 code points further on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    strange = iter(range(256, 512))
    return [chr(byte if byte in plain else next(strange)) for byte in range(256)]


def write_model(path: Path) -> None:
    """A llama of 115 000 random weights. It reads any bytes, and writes lower-case letters and spaces without an end:
    the other tokens have the score 0, and among 27 random scores the best is above that.
    """
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    tokens = [*_alphabet(), "th", "<s>", "</s>"]
    model = gguf.GGUFWriter(path, "llama")
    model.add_name("tiny")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(INNER)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("gpt2")
    model.add_tokenizer_pre("gpt-2")
    model.add_token_list(tokens)
    model.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 2)
    model.add_token_merges(["t h"])
    model.add_bos_token_id(257)
    model.add_eos_token_id(258)
    model.add_chat_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ")

    chance = numpy.random.default_rng(7)
    may_be_written = numpy.zeros((len(tokens), 1))
    may_be_written[[*range(ord("a"), ord("z") + 1), ord(" ")]] = 1
    weights = {
        "token_embd": 0.3 * chance.standard_normal((len(tokens), WIDTH)),
        "output_norm": numpy.ones(WIDTH),
        "output": may_be_written * chance.standard_normal((len(tokens), WIDTH)),
    }
    shapes = {
        "attn_q": WIDTH,
        "attn_k": WIDTH,
        "attn_v": WIDTH,
        "attn_output": WIDTH,
        "ffn_gate": INNER,
        "ffn_up": INNER,
    }
    for layer in range(LAYERS):
        for name, rows in shapes.items():
            weights[f"blk.{layer}.{name}"] = 0.3 * chance.standard_normal((rows, WIDTH))
        weights[f"blk.{layer}.ffn_down"] = 0.3 * chance.standard_normal((WIDTH, INNER))
        weights |= {f"blk.{layer}.{name}": numpy.ones(WIDTH) for name in ("attn_norm", "ffn_norm")}
    for name, values in weights.items():
        model.add_tensor(f"{name}.weight", values.astype(numpy.float32))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


@asynccontextmanager
async def llama_server(model: Path) -> AsyncIterator[int]:
    """llama.cpp's server for as long as the block lasts; yields its port."""
    with (model.parent / "llama.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVE, str(model), str(CONTEXT)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            address = (await process.stdout.readline()).decode().strip()
        if not address.startswith("http://127.0.0.1:"):
            raise RuntimeError(f"llama.cpp did not start: {(model.parent / 'llama.log').read_text()[-2000:]}")
        yield int(address.rpartition(":")[2])
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The model as a file, made once (0.1 s)."""
    pytest.importorskip("xllamacpp", reason="xllamacpp (llama.cpp's server) is not installed")
    path = tmp_path_factory.mktemp("llama") / "tiny.gguf"
    write_model(path)
    yield path
    path.unlink()
