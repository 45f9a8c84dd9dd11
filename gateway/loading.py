"""File + environment -> Settings, or every problem at once, each with its file, line and key.

The YAML tree is read node by node by the kinds that ``settings`` declares, so that each value knows its line. Laws: an
unknown key is an error, with the nearest known one; ``${NAME}`` and ``${NAME:-default}`` are expanded inside values, after
parsing, so that a secret cannot become syntax; no problem repeats a value, which might be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from gateway.agreement import disagreements
from gateway.canonical import yaml_name
from gateway.kinds import READERS, SECRETS, Kind, Secret, Wrong, near, read_text
from gateway.observe.labels import label_name
from gateway.outbound import unusable
from gateway.settings import DEFAULT_UPSTREAMS, PROVIDERS, Budget, Settings
from gateway.store.rollups import Rollups
from gateway.value import value
from gateway.webhooks import faults
from pricing.book import Book

MAX_FILE_BYTES = 1 << 20
"""The parser reads about 150 KB a second; a config of ten thousand budgets is a megabyte."""
MAX_NODES = 100_000
"""An alias that holds aliases that hold aliases grows beyond memory; a config does not have so many values."""
MAX_PROBLEMS = 100
YAML = "tag:yaml.org,2002:"
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_WRITTEN = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*(?::-[^{}\n]*)?)\}")
_PARSED = re.compile(r"\$\ue000([^:\ue001]+)(?::-([^\ue001]*))?\ue001")
"""A variable while the parser looks at it: within ``{a: ${B}}`` YAML would end the value at the first brace."""
_BRACES = str.maketrans("\ue000\ue001", "{}")


class Problems(Exception):  # noqa: N818 - it is a list of them
    """Everything that is wrong with a config, a line each: ``file:line: key: problem``."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("\n".join(found))
        self.found = found


class _Enough(Exception):  # noqa: N818
    """Reading on would help nobody."""


@value
class _At:
    """A place in the tree: the key's path and its line."""

    path: str
    line: int

    def key(self, name: str, node: yaml.Node) -> _At:
        return _At(f"{self.path}.{name}" if self.path else name, _line(node))


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read a config; None = the built-in defaults. Raises Problems."""
    if path is None:
        built_in = Settings()
        if found := [f"{at}: {fault}" for at, _, fault in unusable(built_in, environ)]:
            raise Problems(found)
        return built_in
    reader = _Reader(str(path), environ)
    settings = reader.read(path)
    if reader.problems or settings is None:
        raise Problems([text for _, text in sorted(reader.problems, key=lambda each: each[0])])
    return settings


class _Reader:
    """Walks one file. Goes on after a problem, so that a person sees all of them."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self._name = name
        self._environ = environ
        self._lines: dict[str, int] = {}
        self._faulty: set[str] = set()
        self._removed: set[str] = set()
        self._nodes = 0
        self.problems: list[tuple[int, str]] = []

    def read(self, path: Path) -> Settings | None:
        root = self._compose(path)
        if root is None:
            return None
        try:
            settings = self._with_defaults(self._block(Settings, root, _At("", _line(root))))
            self._cross_check(settings)
        except _Enough:
            return None
        except RecursionError:
            self._problem(_At("", 1), "a value holds itself")
            return None
        return settings

    def _problem(self, at: _At, text: str) -> None:
        self._faulty.add(at.path)
        self.problems.append((at.line, f"{self._name}:{at.line}: {at.path + ': ' if at.path else ''}{text}"))

    def _compose(self, path: Path) -> yaml.Node | None:
        """The file as a tree; None after a problem."""
        line, fault, raw, text = 1, "holds no keys; write {} for the defaults", b"", ""
        try:
            raw = path.read_bytes()
            if len(raw) > MAX_FILE_BYTES:
                raise Wrong(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
            text = raw.decode("utf-8-sig")
            root = yaml.compose(_WRITTEN.sub("$\ue000\\1\ue001", text), Loader=yaml.SafeLoader)
            if root is not None and not _is_null(root):
                return root
        except Wrong as wrong:
            fault = str(wrong)
        except UnicodeDecodeError as error:
            line, fault = raw.count(b"\n", 0, error.start) + 1, "is not UTF-8"
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            line, fault = _yaml_fault(error, text)
        self._problem(_At("", line), fault)
        return None

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _value(self, kind: Kind, node: yaml.Node, at: _At, default: Any) -> Any:
        """One value by its kind; after a problem the default, so that reading can go on."""
        self._lines[at.path] = at.line
        if kind.name == "block" and kind.block is not None:
            return self._block(kind.block, node, at)
        if kind.name == "map" and kind.of is not None:
            return self._map(kind.of, node, at)
        if kind.name == "words" and kind.of is not None:
            return self._words(kind.of, node, at)
        if kind.name == "list" and kind.of is not None:
            return self._list(kind, kind.of, node, at, default)
        try:
            return (READERS.get(kind.name) or OUTSIDE[kind.name])(kind, self._text(node))
        except Wrong as wrong:
            self._problem(at, str(wrong))
            return default

    def _block(self, shape: type, node: yaml.Node, at: _At) -> Any:
        known = {yaml_name(each): each for each in fields(shape)}
        secrets = {f"{name}_file": name for name, each in known.items() if each.metadata["kind"].name in SECRETS}
        entries = self._entries(node, at)
        values: dict[str, Any] = {}
        missing = {
            name
            for name, each in known.items()
            if each.metadata["required"]
            and (name not in entries or _is_null(entries[name][1]))
            and not (f"{name}_file" in entries and f"{name}_file" in secrets)
        }
        for name, (at_key, child) in entries.items():
            if name in secrets:
                kind = known[secrets[name]].metadata["kind"]
                values[secrets[name]] = self._secret_file(kind, child, at_key, beside=secrets[name] in entries)
            elif name not in known:
                guess = near(name, [*known, *secrets])
                self._problem(at_key, f"there is no such key{guess or '; known are ' + ', '.join(known)}")
                self._count(at_key)
                missing -= {each for each in missing if guess.endswith(f" {each}?")}
            elif not _is_null(child):
                each = known[name]
                values[each.name] = self._value(each.metadata["kind"], child, at_key, each.default)
        for name in sorted(missing):
            self._problem(_At(f"{at.path}.{name}", at.line), "is missing")
        return shape(**values)

    def _entries(self, node: yaml.Node, at: _At) -> dict[str, tuple[_At, yaml.Node]]:
        """The keys of a mapping, each with its place; a key that stands twice is a problem. ``<<`` merges, as ever."""
        if _is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._problem(at, "must be a block of keys")
            return {}
        entries: dict[str, tuple[_At, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key_node, child in node.value:
            self._count(at)
            if key_node.tag == YAML + "merge":
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
            elif not isinstance(key_node, yaml.ScalarNode):
                self._problem(_At(at.path, _line(key_node)), "a key must be a word")
            else:
                name = _printable(key_node.value.translate(_BRACES))
                if name in entries:
                    self._problem(at.key(name, key_node), "stands twice")
                entries.setdefault(name, (at.key(name, key_node), child))
        for each in merged:
            self._count(at)
            entries = self._entries(each, at) | entries
        return entries

    def _map(self, of: Kind, node: yaml.Node, at: _At) -> dict[str, Any]:
        found = {}
        for name, (at_key, child) in self._entries(node, at).items():
            if not _NAME.fullmatch(name) or name == "v1":
                self._problem(at_key, "a name is made of a-z, 0-9 and -, and is not v1")
            if _is_null(child):
                self._removed.add(name)
            else:
                found[name] = self._value(of, child, at_key, None)
        return found

    def _words(self, of: Kind, node: yaml.Node, at: _At) -> dict[str, Any]:
        """Texts (or secrets) by texts that are nobody's names but the user's own."""
        entries = {name: self._value(of, child, place, "") for name, (place, child) in self._entries(node, at).items()}
        return {name: text for name, text in entries.items() if name and text}

    def _list(self, kind: Kind, of: Kind, node: yaml.Node, at: _At, default: Any) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(at, "must be a list")
            return tuple(default)
        values = []
        for index, child in enumerate(node.value):
            self._count(at)
            values.append(self._value(of, child, _At(f"{at.path}[{index}]", _line(child)), None))
        if not kind.least <= len(values) <= kind.most:
            bounds = f"exactly {kind.least}" if kind.least == kind.most else f"from {kind.least} to {kind.most}"
            self._problem(at, f"must hold {bounds} of them, not {len(values)}")
        texts = [value for value in values if isinstance(value, str)]
        if len(set(texts)) < len(texts):
            self._problem(at, "holds the same value twice")
        return tuple(value for value in values if value is not None)

    def _count(self, at: _At) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._problem(at, f"the file holds more than {MAX_NODES} values")
        if self._nodes > MAX_NODES or len(self.problems) >= MAX_PROBLEMS:
            raise _Enough

    # -- values -------------------------------------------------------------------------------------------------------

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise Wrong("must be a single value")
        if not node.tag.startswith(YAML):
            raise Wrong("takes no tag (!...)")
        if "${" in node.value:
            raise Wrong("holds ${ without the name of a variable and a }")
        return _PARSED.sub(self._variable, node.value).translate(_BRACES)

    def _variable(self, match: re.Match[str]) -> str:
        name, default = match.groups()
        value = self._environ.get(name)
        if value is None and default is None:
            raise Wrong(f"the environment variable {name} is not set")
        return value or default or ""

    def _secret_file(self, kind: Kind, node: yaml.Node, at: _At, *, beside: bool) -> Any:
        """What a ``*_file`` key names, without the white space around it: most editors end a file with a new line."""
        try:
            if beside:
                raise Wrong("stands beside the key that it is for; one of them is enough")
            text = Path(self._text(node)).read_text(encoding="utf-8").strip()
            if not text:
                raise Wrong("the file is empty")
            return READERS[kind.name](kind, text)
        except Wrong as wrong:
            self._problem(at, str(wrong))
        except (OSError, ValueError):
            self._problem(at, "the file cannot be read")
        return Secret()

    # -- what only the whole tells ------------------------------------------------------------------------------------

    def _with_defaults(self, settings: Settings) -> Settings:
        """The default upstreams beside the file's, a provider where none is named, and no default route to nowhere."""
        named = settings.upstreams if "upstreams" in self._lines else {}
        asked = set(DEFAULT_UPSTREAMS) - self._removed
        if settings.auth.mode == "keys":
            # the built-in ones have no key of their own: only what the file's routes count on stays, to be complained of
            asked &= {name for route in settings.routes for name in route.to} if "routes" in self._lines else set()
        kept = {name: each for name, each in DEFAULT_UPSTREAMS.items() if name in asked}
        upstreams = {
            name: each if each.provider else replace(each, provider=PROVIDERS[each.protocol])
            for name, each in (kept | dict(named)).items()
        }
        routes = settings.routes
        if "routes" not in self._lines:
            routes = tuple(route for route in routes if route.to[0] in upstreams)
        return replace(settings, upstreams=MappingProxyType(upstreams), routes=routes)

    def _cross_check(self, settings: Settings) -> None:
        for index, route in enumerate(settings.routes):
            at = self._place(f"routes[{index}].to")
            for name in route.to:
                if name not in settings.upstreams and "upstreams" not in self._faulty:
                    self._problem(at, f"there is no upstream of that name{near(name, settings.upstreams)}")
        for index, other in enumerate(settings.metering.stream_usage_except):
            of, _, name = other.partition(":")
            if of == "upstream" and name not in settings.upstreams and "upstreams" not in self._faulty:
                at = self._place(f"metering.stream_usage_except[{index}]")
                self._problem(at, f"there is no upstream of that name{near(name, settings.upstreams)}")
        names: set[str] = set()
        for index, budget in enumerate(settings.budgets):
            at = self._place(f"budgets[{index}]")
            if budget_name(budget) in names and not self._is_faulty(at.path):
                self._problem(at, "another budget has this name; give it one of its own (name: ...)")
            names.add(budget_name(budget))
        for path, unless, fault in [*disagreements(settings), *unusable(settings, self._environ)]:
            if not self._is_faulty(unless):
                within = path.rpartition(".")[0]
                self._problem(self._place(path, within if within in self._lines else "auth.mode"), fault)
        for index, webhook in enumerate(settings.alerts.webhooks):
            of = f"alerts.webhooks[{index}]"
            for key, fault in () if self._is_faulty(of) else list(faults(webhook)):
                self._problem(_At(f"{of}.{key}", self._place(f"{of}.{key}", of).line), fault)
        self._check_prices(settings.pricing.overrides)
        at = self._place("observability.metrics.labels")
        labels = [label_name(each) for each in settings.observability.metrics.labels]
        if len(set(labels)) < len(labels) and not self._is_faulty(at.path):
            self._problem(at, "two of them would be one label: only letters, digits and _ are told apart")
        admin = settings.admin
        if admin.port and admin.port == settings.front.port:
            place = self._place("admin.port" if "admin.port" in self._lines else "front.port")
            self._problem(place, "both listeners have the same port")

    def _check_prices(self, overrides: str) -> None:
        if not overrides or self._is_faulty("pricing.overrides"):
            return
        try:
            load_book(overrides)
        except (OSError, ValueError) as error:
            for fault in str(error).split("\n")[:MAX_PROBLEMS]:
                self._problem(self._place("pricing.overrides"), _printable(fault, 300))

    def _place(self, path: str, within: str = "") -> _At:
        return _At(path, self._lines.get(path) or self._lines.get(within, 1))

    def _is_faulty(self, path: str) -> bool:
        """Whether something was wrong at or below it: a second problem would only be an echo of the first."""
        return any(each == path or each.startswith(f"{path}.") for each in self._faulty)


# -- values that name something outside the file -------------------------------------------------------------------------


def _read_zone(kind: Kind, text: str) -> str:
    try:
        return ZoneInfo(read_text(kind, text)).key
    except (ValueError, OSError, KeyError):
        raise Wrong("there is no such time zone") from None


def _read_file(kind: Kind, text: str) -> str:
    try:
        found = not text or Path(read_text(kind, text)).is_file()
    except OSError:
        found = False
    if not found:
        raise Wrong("there is no such file")
    return text


OUTSIDE: dict[str, Callable[[Kind, str], Any]] = {
    "zone": _read_zone,
    "file": _read_file,
}


# -- small things ---------------------------------------------------------------------------------------------------------


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == YAML + "null"


def _yaml_fault(error: Exception, text: str) -> tuple[int, str]:
    """Line and words of what the parser did not like. The name of an alias is left out: it may be half a password."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        words = re.sub(r"(alias|anchor) .*", r"\1", error.problem or "it is cut off", flags=re.DOTALL)
        return (mark.line + 1 if mark else 1), f"is not YAML: {_printable(words)}"
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "is not YAML: it holds a control character"
    return 1, f"is not YAML: {'it nests too deep' if isinstance(error, RecursionError) else 'a number is too large'}"


def _printable(text: str, most: int = 80) -> str:
    """Text for a message: one line, bounded, nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def load_book(overrides: str) -> Book:
    """The price book, behind the operator's rows (YAML or JSON) if there are any. ValueError and OSError as in ``Book.load``."""
    return Book.load(Path(overrides) if overrides else None, yaml.safe_load)


def rollups_of(settings: Settings) -> Rollups:
    """How sums of spend are kept."""
    return Rollups(settings.spend.by, settings.retention.spend_hours, settings.retention.spend_days)


def budget_name(budget: Budget) -> str:
    """The name a budget goes by: its own, or scope/window."""
    return budget.name or f"{budget.scope}/{budget.window}"
