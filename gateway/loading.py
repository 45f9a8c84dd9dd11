"""File + environment -> Settings, or every problem at once, each with its file, line and key.

The YAML tree is read node by node, so that each value knows its line. Laws: an unknown key is an error, with the nearest
known one; ``${NAME}`` and ``${NAME:-default}`` are expanded inside values, after parsing, so that a secret cannot become
syntax; no problem repeats a value, which might be a secret.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml

from gateway.settings import DEFAULT_UPSTREAMS, PROVIDERS, Budget, Kind, Secret, Settings
from gateway.values import READERS, Wrong, near

MAX_FILE_BYTES = 4 << 20
MAX_DEPTH = 12
MAX_NODES = 100_000
"""An alias that holds aliases that hold aliases grows beyond memory; a config does not have so many values."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SCOPE = re.compile(r"global|(?:team|user):(?:\*|[!-~](?:[ -~]{0,126}[!-~])?)")


class Problems(Exception):  # noqa: N818 - it is a list of them
    """Everything that is wrong with a config, a line each: ``file:line: key: problem``."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("\n".join(found))
        self.found = found


@dataclass(frozen=True, slots=True)
class _At:
    """A place in the tree: the key's path and its line."""

    path: str
    line: int

    def key(self, name: str, node: yaml.Node) -> _At:
        return _At(f"{self.path}.{name}" if self.path else name, _line(node))


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read a config; None = the built-in defaults. Raises Problems."""
    if path is None:
        return Settings()
    reader = _Reader(str(path), environ)
    settings = reader.read(path)
    if reader.problems or settings is None:
        raise Problems(reader.problems)
    return settings


class _Reader:
    """Walks one file. Goes on after a problem, so that a person sees all of them."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self._name = name
        self._environ = environ
        self._lines: dict[str, int] = {}
        self._nodes = 0
        self._faulty: set[str] = set()
        self._checking = False
        self.problems: list[str] = []

    def read(self, path: Path) -> Settings | None:
        root = self._compose(path)
        if self.problems:
            return None
        settings: Settings = self._block(Settings, root, _At("", 1)) if root is not None else Settings()
        settings = replace(settings, upstreams=self._with_defaults(settings, root))
        self._cross_check(settings)
        return settings

    def _problem(self, at: _At, text: str) -> None:
        """Note a problem; a second one about the same block would only be an echo of the first."""
        if self._checking and any(path.startswith(at.path) for path in self._faulty):
            return
        self._faulty.add(at.path)
        self.problems.append(f"{self._name}:{at.line}: {at.path + ': ' if at.path else ''}{text}")

    def _compose(self, path: Path) -> yaml.Node | None:
        try:
            raw = path.read_bytes()
            if len(raw) > MAX_FILE_BYTES:
                raise Wrong("is larger than 4 MiB")
            text = raw.decode("utf-8-sig")
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except OSError as error:
            self._problem(_At("", 1), f"cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            self._problem(_At("", raw.count(b"\n", 0, error.start) + 1), "is not UTF-8")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._problem(_At("", mark.line + 1 if mark else 1), f"is not YAML: {error.problem or 'unreadable'}")
        except (yaml.YAMLError, Wrong, ValueError, RecursionError) as error:
            self._problem(_At("", 1), str(error) if isinstance(error, Wrong) else "is not YAML")
        return None

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _value(self, kind: Kind, node: yaml.Node, at: _At, default: Any) -> Any:
        """One value by its kind; after a problem the default, so that reading can go on."""
        self._lines[at.path] = at.line
        self._nodes += 1
        if self._nodes > MAX_NODES or at.path.count(".") > MAX_DEPTH:
            if self._nodes <= MAX_NODES + 1:
                self._problem(at, "the file holds too many values")
            return default
        if kind.name == "block" and kind.block is not None:
            return self._block(kind.block, node, at)
        if kind.name == "map" and kind.of is not None:
            return self._map(kind.of, node, at)
        if kind.name == "list" and kind.of is not None:
            return self._list(kind.of, node, at)
        try:
            return READERS[kind.name](kind, self._text(node))
        except Wrong as wrong:
            self._problem(at, str(wrong))
            return default

    def _block(self, shape: type, node: yaml.Node, at: _At) -> Any:
        known = {_yaml_name(each): each for each in fields(shape)}
        values: dict[str, Any] = {}
        for name, at_key, child in self._entries(node, at):
            target = name.removesuffix("_file") if name.endswith("_file") and name not in known else name
            each = known.get(target)
            if each is None or (target != name and each.metadata["kind"].name != "secret"):
                self._problem(at_key, _unknown(name, known))
            elif target != name:
                values[each.name] = self._secret_file(child, at_key)
            elif not _is_null(child):
                values[each.name] = self._value(each.metadata["kind"], child, at_key, _default(each))
        return shape(**values)

    def _entries(self, node: yaml.Node, at: _At) -> list[tuple[str, _At, yaml.Node]]:
        """Keys of a mapping, each with its place; a key that stands twice is a problem."""
        if _is_null(node):
            return []
        if not isinstance(node, yaml.MappingNode):
            self._problem(at, "must be a block of keys")
            return []
        entries: dict[str, tuple[str, _At, yaml.Node]] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(_At(at.path, _line(key_node)), "a key must be a word")
                continue
            at_key = at.key(key_node.value, key_node)
            if key_node.value in entries:
                self._problem(at_key, "stands twice")
            entries[key_node.value] = (key_node.value, at_key, child)
        return list(entries.values())

    def _map(self, of: Kind, node: yaml.Node, at: _At) -> dict[str, Any]:
        found = {}
        for name, at_key, child in self._entries(node, at):
            if not _NAME.fullmatch(name) or name == "v1":
                self._problem(at_key, "a name is made of a-z, 0-9 and -, and is not v1")
            elif not _is_null(child):
                found[name] = self._value(of, child, at_key, None)
        return found

    def _list(self, of: Kind, node: yaml.Node, at: _At) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(at, "must be a list")
            return ()
        values = [
            self._value(of, child, _At(f"{at.path}[{index}]", _line(child)), None)
            for index, child in enumerate(node.value)
        ]
        return tuple(value for value in values if value is not None)

    # -- values -------------------------------------------------------------------------------------------------------

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise Wrong("must be a single value")
        return _VARIABLE.sub(self._variable, node.value)

    def _variable(self, match: re.Match[str]) -> str:
        name, default = match.groups()
        value = self._environ.get(name) or default
        if value is None:
            raise Wrong(f"the environment variable {name} is not set")
        return value

    def _secret_file(self, node: yaml.Node, at: _At) -> Secret:
        try:
            return Secret(Path(self._text(node)).read_text(encoding="utf-8").strip())
        except Wrong as wrong:
            self._problem(at, str(wrong))
        except (OSError, ValueError):
            self._problem(at, "the file cannot be read")
        return Secret()

    # -- what only the whole tells ------------------------------------------------------------------------------------

    def _with_defaults(self, settings: Settings, root: yaml.Node | None) -> Mapping[str, Any]:
        """The defaults, replaced or removed by the file's entries; a provider follows from the protocol."""
        removed = {name for name, child in _children(root, "upstreams") if _is_null(child)}
        named = dict(settings.upstreams)
        merged = {name: each for name, each in DEFAULT_UPSTREAMS.items() if name not in removed} | named
        return MappingProxyType(
            {
                name: each if each.provider else replace(each, provider=PROVIDERS[each.protocol])
                for name, each in merged.items()
            }
        )

    def _at(self, path: str) -> _At:
        return _At(path, self._lines.get(path, 1))

    def _cross_check(self, settings: Settings) -> None:
        self._checking = True
        for name, upstream in settings.upstreams.items():
            fault = _url_fault(upstream.base_url)
            if fault:
                self._problem(self._at(f"upstreams.{name}"), f"base_url {fault}")
            if upstream.ca_file and not Path(upstream.ca_file).is_file():
                self._problem(self._at(f"upstreams.{name}.ca_file"), "there is no such file")
        self._check_routes(settings)
        self._check_budgets(settings)
        admin, front = settings.admin, settings.front
        if not _is_loopback(admin.host) and not admin.token:
            self._problem(self._at("admin.host"), "off loopback the admin listener needs admin.token")
        if admin.port and admin.port == front.port:
            self._problem(self._at("admin.port"), "is the front's port as well")
        if not settings.store.url.removeprefix("sqlite:///") or not settings.store.url.startswith("sqlite:///"):
            self._problem(self._at("store.url"), "must be sqlite:///FILE")
        if settings.pricing.overrides and not Path(settings.pricing.overrides).is_file():
            self._problem(self._at("pricing.overrides"), "there is no such file")

    def _check_routes(self, settings: Settings) -> None:
        for index, route in enumerate(settings.routes):
            at = self._at(f"routes[{index}]")
            if len(route.to) != 1:
                self._problem(at, "to must name exactly one upstream: fallback and weights are not there yet")
            for name in route.to:
                if name not in settings.upstreams and index < len(settings.routes) and at.path in self._lines:
                    self._problem(at, f"there is no upstream of that name{near(name, settings.upstreams)}")

    def _check_budgets(self, settings: Settings) -> None:
        names: set[str] = set()
        for index, budget in enumerate(settings.budgets):
            at = self._at(f"budgets[{index}]")
            if not _SCOPE.fullmatch(budget.scope):
                self._problem(at, "scope must be global, team:NAME, team:*, user:NAME or user:*")
            if not budget.limit_nanousd:
                self._problem(at, "limit_usd is missing")
            try:
                ZoneInfo(budget.timezone)
            except (ValueError, OSError, KeyError):
                self._problem(self._at(f"{at.path}.timezone"), "there is no such time zone")
            name = budget_name(budget)
            if name in names:
                self._problem(at, "another budget has this name; give it one of its own (name: ...)")
            names.add(name)


def budget_name(budget: Budget) -> str:
    """The name a budget goes by: its own, or scope/window."""
    return budget.name or f"{budget.scope}/{budget.window}"


# -- small things ---------------------------------------------------------------------------------------------------------


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _children(root: yaml.Node | None, name: str) -> list[tuple[str, yaml.Node]]:
    if not isinstance(root, yaml.MappingNode):
        return []
    for key_node, child in root.value:
        if key_node.value == name and isinstance(child, yaml.MappingNode):
            return [(str(each.value), value) for each, value in child.value]
    return []


def _yaml_name(each: Field[Any]) -> str:
    return each.metadata["yaml"] or each.name


def _default(each: Field[Any]) -> Any:
    return each.default if each.default is not MISSING else None


def _unknown(name: str, known: Any) -> str:
    return f"there is no such key{near(name, known) or '; known are ' + ', '.join(known)}"


def _url_fault(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be http://... or https://..."
    if parts.query or parts.fragment or "@" in parts.netloc:
        return "takes no query, fragment or credentials"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# -- the canonical form ---------------------------------------------------------------------------------------------------


def canonical(settings: Settings) -> dict[str, Any]:
    """The settings as YAML would have them, secrets masked: what ``tollgate check`` and the admin API show."""
    shown = _shown(settings, lambda secret: "***" if secret else "")
    if not isinstance(shown, dict):
        raise TypeError("settings are a block")
    return shown


def version(settings: Settings) -> str:
    """The version of a config: 12 hex digits over its canonical form. Secrets count, as hashes."""
    hashed = _shown(settings, lambda secret: hashlib.sha256(secret.reveal().encode()).hexdigest())
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]


def _shown(value: Any, secret: Callable[[Secret], str]) -> Any:
    if isinstance(value, Secret):
        return secret(value)
    if hasattr(value, "__dataclass_fields__"):
        return {_yaml_name(each): _shown_field(each, getattr(value, each.name), secret) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: _shown(each, secret) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_shown(each, secret) for each in value]
    return value


def _shown_field(each: Field[Any], value: Any, secret: Callable[[Secret], str]) -> Any:
    kind: Kind = each.metadata["kind"]
    if kind.name == "money":
        return float(Decimal(value) / 10**9)
    if kind.name == "duration":
        return f"{value:g}s"
    return _shown(value, secret)
