"""The laws that a tree can break without a test of behaviour noticing: silence, size, docstrings, one writer a field."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "pricing").rglob("*.py")])
QUIET = [path for path in SOURCES if path.relative_to(ROOT).parts[:2] in {
    ("gateway", "dialects"), ("gateway", "admission"), ("gateway", "metering"),
} or path.relative_to(ROOT).parts[0] == "pricing"]  # fmt: skip
NOISES = {"open", "print", "input"}
NOISY_MODULES = {"asyncio", "time", "random", "socket", "threading", "subprocess", "secrets", "aiohttp", "logging"}
READS_ITS_OWN_DATA = {"book.py"}
"""pricing is a library of its own: its book is read from the package when it is loaded, not while calls are served."""
STEPS = ("caller", "ask", "request", "claims", "hold", "refusal", "ending", "usage", "cost", "receipt")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", QUIET, ids=named)
def test_a_quiet_room_makes_no_noise(path):
    """No await, no clock, no randomness, no I/O in dialects, admission, metering and pricing."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith), node.lineno
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & NOISY_MODULES, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and path.name not in READS_ITS_OWN_DATA:
            assert node.func.id not in NOISES, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"now", "utcnow", "today"}, node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_module_opens_with_what_it_owns(path):
    """A module without a word on its purpose grows one of its own."""
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "no docstring"


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=named)
def test_nothing_is_too_large_to_read(path):
    """Stop and think: files over 420 lines, functions over 50 (docstring apart)."""
    text = path.read_text()
    assert text.count("\n") <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            spoken = (docstring.end_lineno - docstring.lineno + 1) if docstring else 0
            length = node.end_lineno - node.lineno + 1 - spoken
            assert length <= 62, f"{node.name}: {length} lines"


def test_each_field_of_the_call_has_one_writer():
    """One field, one file that writes it; ``usage`` and ``cost`` have a fallback in settle, ``refusal`` is handle's."""
    writers: dict[str, set[str]] = {step: set() for step in STEPS}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(each, ast.Attribute) and each.attr in STEPS and _is_call(each.value):
                        writers[each.attr].add(path.name)
    allowed = {step: {"handle.py"} for step in STEPS} | {
        "usage": {"watch.py", "settle.py"},
        "cost": {"watch.py", "settle.py"},
        "receipt": {"settle.py"},
    }
    assert writers == allowed


def _is_call(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "call") or (
        isinstance(node, ast.Attribute) and node.attr == "call"
    )
