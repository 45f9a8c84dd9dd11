"""What operators have decided while the gateway runs, and what it comes to beside the config: keys and budgets as calls meet them.

Entries in, ``Decided`` out; ``Decided`` and Settings in, Keys and Ledger out. Nothing here asks anybody. Laws: an entry for a budget
takes the place of the config's budget of that name as a whole, for as long as it is there; a key that an entry calls revoked or expired
is so wherever it stands; an entry that cannot be read changes nothing and is told of.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, TypeVar

import orjson

from gateway import given
from gateway.admission.budgets import Budget, Ledger
from gateway.admission.keys import Key, Keys, patterns
from gateway.canonical import short_hash
from gateway.changes import Denied, Entry
from gateway.kinds import MOMENT, READERS
from gateway.loading import budget_name
from gateway.settings import WEEK_STARTS, GatewayKey, Settings
from gateway.settings import Budget as BudgetSettings
from gateway.value import value

log = logging.getLogger("gateway.decided")

T = TypeVar("T")
KEY, BUDGET, RESET, ANNOTATION, CONFIG = "key", "budget", "reset", "annotation", "config"
"""The kinds of entries."""
OF_CONFIG = "c_"
"""What the id of a key in the config begins with; the first digits of its hash follow."""
STATES = ("active", "expired", "revoked")
MAX_TAGS, OTHER = 20, "other"
"""Tags are free text: beyond so many different ones they are counted together."""
PAUSE_EVERY = 32
"""So many are looked at before other threads may go on: a thread that computes keeps the event loop waiting for 5 ms at a time."""


@value
class Decision:
    """One entry. ``means`` is what it comes to for calls: a Key, a Budget, or nano-dollars that are forgiven; None = nothing by itself."""

    version: int
    body: Mapping[str, Any] = field(repr=False)
    means: Any = field(repr=False)


@value
class Decided:
    """All that is decided, by name. Never changed: ``following`` makes a new one, and keeps what is not touched."""

    revision: int = 0
    is_read: bool = False
    """Whether the store has been asked at all."""
    keys: Mapping[str, Decision] = field(default_factory=dict)
    budgets: Mapping[str, Decision] = field(default_factory=dict)
    resets: Mapping[str, Decision] = field(default_factory=dict)
    annotations: Mapping[str, Decision] = field(default_factory=dict)
    config: Mapping[str, Decision] = field(default_factory=dict)

    def following(self, entries: Iterable[Entry]) -> Decided:
        """With what has changed since, in the order in which it did. For a thread: ten thousand take a second."""
        found: dict[str, dict[str, Decision]] = {}
        revision = self.revision
        for entry in unhurried(entries):
            revision = max(revision, entry.version)
            place = _PLACES.get(entry.kind)
            if place is None:
                continue
            there = found.setdefault(place, dict(getattr(self, place)))
            decision = _decision(entry)
            if entry.body is None or (decision is None and _lets_in(entry)):
                there.pop(entry.name, None)
            elif decision is not None:
                there.pop(entry.name, None)  # the latest stands last
                there[entry.name] = decision
        return replace(self, revision=revision, is_read=True, **found)

    def about_budget(self, name: str) -> dict[str, Any]:
        """Where a budget is from, and who said so."""
        decision = self.budgets.get(name)
        told = decision.body if decision is not None else {}
        return {
            "source": "config" if decision is None else "runtime",
            "version": decision.version if decision is not None else None,
            "reason": told.get("reason") or None,
            "changed_by": told.get("by"),
            "changed_at": told.get("at"),
        }


NOTHING = Decided()
_PLACES = {KEY: "keys", BUDGET: "budgets", RESET: "resets", ANNOTATION: "annotations", CONFIG: "config"}


class Counts:
    """What metrics show of the decisions."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, ...], float] = {}
        self._revision = 0
        self._added: dict[str, float] = {}

    def look(self, settings: Settings, decided: Decided, now: float) -> None:
        """Count the keys that there are. For a thread: it goes through all of them."""
        states = Counter(dict.fromkeys(STATES, 0))
        ends = {config_id(each.hash): (0, each.expires) for each in unhurried(settings.keys)}
        for name, each in unhurried(decided.keys.items()):
            if each.means is not None:
                ends[name] = (each.means.revoked_at, each.means.expires_at)
            elif name in ends:
                expires = moment_of(each.body.get("expires")) or ends[name][1]
                ends[name] = (moment_of(each.body.get("revoked_at")), expires)
        for revoked, expires in unhurried(ends.values()):
            states[STATES[2] if revoked else STATES[1] if expires and expires <= now else STATES[0]] += 1
        self._keys = {(state,): float(count) for state, count in states.items()}

    def add(self, decided: Decided) -> None:
        """Go on counting annotations. Once for each revision, in their order."""
        for each in decided.annotations.values():
            if each.version > self._revision:
                tag = (each.body.get("tags") or [""])[0]
                tag = tag if tag in self._added or len(self._added) < MAX_TAGS else OTHER
                self._added[tag] = self._added.get(tag, 0.0) + 1
        self._revision = decided.revision

    def gauges(self) -> dict[str, dict[tuple[str, ...], float]]:
        """As ``observe/names`` declares them."""
        return {
            "tollgate_entries_revision": {(): float(self._revision)},
            "tollgate_keys": self._keys,
            "tollgate_annotations_total": {(tag,): count for tag, count in self._added.items()},
        }


@value
class Rules:
    """What calls meet of the config and of the decisions."""

    keys: Keys | None
    ledger: Ledger
    budgets: Mapping[str, BudgetSettings]
    """Those of the config by name, whether or not a decision takes their place."""


class Composition:
    """Puts both together, and remembers what the config came to: a change of one key compiles one key."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._decided = NOTHING
        self._rules: Rules | None = None
        self._keys: list[tuple[str, Key]] = []
        self._budgets: dict[str, Budget] = {}

    def of(self, settings: Settings, decided: Decided) -> Rules:
        """For one thread at a time."""
        is_new = settings is not self._settings or self._rules is None
        if is_new:
            self._keys = [(config_id(each.hash), key_of(each)) for each in unhurried(settings.keys)]
            self._budgets = {budget_name(each): budget_of(each) for each in unhurried(settings.budgets)}
        before, known = self._rules, self._decided
        if before is None or is_new or decided.keys is not known.keys or decided.is_read != known.is_read:
            keys = self._all_keys(settings, decided)
        else:
            keys = before.keys
        if before is None or is_new or decided.budgets is not known.budgets or decided.resets is not known.resets:
            ledger = self._all_budgets(decided)
        else:
            ledger = before.ledger
        budgets = {budget_name(each): each for each in settings.budgets} if before is None or is_new else before.budgets
        self._settings, self._decided, self._rules = settings, decided, Rules(keys, ledger, budgets)
        return self._rules

    def _all_keys(self, settings: Settings, decided: Decided) -> Keys | None:
        if settings.auth.mode != "keys":
            return None
        mine = (
            limited(key, decided.keys[name].body) if name in decided.keys else key
            for name, key in unhurried(self._keys)
        )
        made = (each.means for each in unhurried(decided.keys.values()) if each.means is not None)
        return Keys((each for part in (mine, made) for each in part), complete=decided.is_read)

    def _all_budgets(self, decided: Decided) -> Ledger:
        kept = (each for name, each in unhurried(self._budgets.items()) if name not in decided.budgets)
        made = (each.means for each in unhurried(decided.budgets.values()))
        forgiven = {name: each.means for name, each in decided.resets.items()}
        return Ledger((each for part in (kept, made) for each in part), forgiven)


def unhurried(items: Iterable[T]) -> Iterator[T]:
    """Within a thread: the event loop goes on in between."""
    for count, each in enumerate(items, 1):
        yield each
        if count % PAUSE_EVERY == 0:
            time.sleep(0)


def config_id(text: str) -> str:
    """The id of a key that stands in the config, by its hash."""
    return OF_CONFIG + short_hash(text)


def key_of(key: GatewayKey) -> Key:
    """As calls are held against it."""
    return Key(
        name=key.name,
        digest=bytes.fromhex(key.hash.removeprefix("sha256:")),
        team=key.team,
        user=key.user,
        models=patterns(key.models),
        upstreams=frozenset(key.upstreams),
        expires_at=key.expires,
        networks=tuple(ip_network(each) for each in key.cidr),
    )


def budget_of(budget: BudgetSettings) -> Budget:
    """As calls are held against it."""
    return Budget(
        budget_name(budget),
        budget.scope,
        budget.limit_nanousd,
        budget.window,
        budget.mode,
        budget.timezone,
        WEEK_STARTS[budget.week_start],
        tuple(sorted(set(budget.notify_at))),
        budget.on_exhausted == "cut",
        budget.lost == "estimate",
    )


def limited(key: Key, body: Mapping[str, Any]) -> Key:
    """A key with what was decided of its end: the sooner of two holds."""
    ends = [each for each in (key.expires_at, moment_of(body.get("expires"))) if each]
    return replace(key, expires_at=min(ends, default=0), revoked_at=moment_of(body.get("revoked_at")))


def moment_of(text: Any) -> int:
    """Unix seconds; 0 = never."""
    return int(READERS[MOMENT.name](MOMENT, str(text))) if text else 0


def settings_of(shape: type[T], body: Mapping[str, Any]) -> T:
    """The part of an entry that a block of the config would hold."""
    names = {name for name, _ in given.declared(shape)}
    return given.block(shape, {name: value for name, value in body.items() if name in names})


def _lets_in(entry: Entry) -> bool:
    """A key whose newest entry cannot be read lets nobody in; whatever else cannot be read leaves what was decided before it."""
    return entry.kind == KEY and not entry.name.startswith(OF_CONFIG)


def _decision(entry: Entry) -> Decision | None:
    """None for what was taken away, and for what a later version of this program may be able to read."""
    if entry.body is None:
        return None
    try:
        body = orjson.loads(entry.body)
        return Decision(entry.version, MappingProxyType(body), _MEANINGS[entry.kind](entry.name, body))
    except (Denied, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("entry %s %r cannot be read and changes nothing: %s", entry.kind, entry.name, type(error).__name__)
        return None


def _key(name: str, body: Mapping[str, Any]) -> Key | None:
    """A key in the config has only its end here."""
    return None if name.startswith(OF_CONFIG) else limited(key_of(settings_of(GatewayKey, body)), body)


def _budget(name: str, body: Mapping[str, Any]) -> Budget:
    return replace(budget_of(settings_of(BudgetSettings, body)), name=name)


def _forgiven(name: str, body: Mapping[str, Any]) -> int:
    return max(0, int(body["forgiven_nanousd"]))


_MEANINGS: Mapping[str, Callable[[str, Mapping[str, Any]], Any]] = {
    KEY: _key,
    BUDGET: _budget,
    RESET: _forgiven,
    ANNOTATION: lambda name, body: None,
    CONFIG: lambda name, body: None,
}
