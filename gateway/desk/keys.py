"""Gateway keys at run time: made, listed, replaced with an overlap, revoked. A key's text is in one answer, and nowhere else."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any

from gateway import given
from gateway.admission.keys import PREFIX, hash_of
from gateway.admission.scopes import parse_scope
from gateway.canonical import short_hash
from gateway.changes import Change, Denied
from gateway.decided import BUDGET, KEY, OF_CONFIG, Decided, config_id, moment_of
from gateway.desk import KEY_TEXT, LETTERS, Asked, Desk, change, new_id, now_text
from gateway.desk.budgets import body_of_budget, told_of_config
from gateway.kinds import LATEST, MOMENT, READERS, SECONDS, WRITERS, YEAR_S, Wrong, duration, near
from gateway.settings import Budget, GatewayKey

Row = dict[str, Any]
RANDOM_CHARS = 32
"""62^32 is 190 bits."""
OVERLAP = "24h"
FIELDS = ("name", "team", "user", "models", "upstreams", "cidr")
IN_CONFIG = (
    "its line stands in the config: take it out there as well, so that it stays out whatever becomes of the store"
)
NOT_ASKED_FOR = "no call needs a gateway key: auth.mode is passthrough"


def text_of_a_key() -> str:
    """A new key."""
    return PREFIX + "".join(secrets.choice(LETTERS) for _ in range(RANDOM_CHARS))


def entry_of(wanted: Mapping[str, Any], text: str) -> Row:
    """The line for a config of a key with this text. Denied with all that is wrong."""
    body = _fields({**wanted, "upstreams": None}, hash_of(text)) | {"upstreams": list(wanted.get("upstreams") or ())}
    return {field: body[field] for field in ("name", "hash", *FIELDS[1:], "expires") if body[field]}


class KeyDesk:
    """What can be done with keys."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def mode(self) -> str:
        """``auth.mode``."""
        return self._desk.settings().auth.mode

    async def rows(self, search: str = "") -> list[Row]:
        """All keys, the config's first, then the newest; a search looks into id, name, team and user."""
        return await asyncio.to_thread(self._rows, await self._desk.current(), search)

    async def create(self, asked: Asked, wanted: Mapping[str, Any]) -> Row:
        """A new key; ``wanted`` as the admin API takes it. The row, with ``key``: its text."""
        text = text_of_a_key()
        body, budget = self._read(wanted, hash_of(text))
        body |= {"created_at": now_text(), "created_by": asked.by}
        name = new_id("k_")

        def make(decided: Decided) -> list[Change]:
            self._check_name(decided, body)
            made = [change(asked, "key.create", KEY, name, body, None)]
            if budget is not None:
                of_budget = body_of_budget(asked, budget)
                known = decided.budgets.get(budget["name"])
                version = known.version if known is not None else None
                before = told_of_config(self._desk.settings(), budget["name"])
                made.append(change(asked, "budget.set", BUDGET, budget["name"], of_budget, version, before))
            return made

        row = self._row_of(await self._desk.decide(make), name)
        note = {"note": NOT_ASKED_FOR} if self.mode != "keys" else {}
        return {"key": text, **row, **({"budget": budget["name"]} if budget is not None else {}), **note}

    async def rotate(self, asked: Asked, name: str, wanted: Mapping[str, Any]) -> Row:
        """A key that takes the place of another: the same in all but text and end. The old one is good for ``overlap`` still."""
        overlap_s = given.one(duration(), wanted.get("overlap") or OVERLAP, "overlap")
        text, new = text_of_a_key(), new_id("k_")
        expires = _expires(wanted.get("expires"))

        def make(decided: Decided) -> list[Change]:
            old, row, version = self._found(decided, name)
            asked.check(version)
            if row["state"] != "active":
                raise Denied("conflict", f"the key is {row['state']}: make a new one")
            if old.get("replaced_by"):
                raise Denied("conflict", f"the key has been replaced already: by {old['replaced_by']}")
            now = time.time()
            body = {field: old[field] for field in FIELDS} | {"hash": hash_of(text), "replaces": name}
            body |= {
                "expires": _text(expires or _same_length(old, now)),
                "created_at": now_text(),
                "created_by": asked.by,
            }
            ends = min(filter(None, (moment_of(old.get("expires")), int(now + overlap_s))))
            ending = old | {"expires": _text(ends), "replaced_by": new}
            return [
                change(asked, "key.rotate", KEY, new, body, None),
                change(asked, "key.rotate", KEY, name, ending, version, old),
            ]

        row = self._row_of(await self._desk.decide(make), new)
        return {"key": text, **row, "replaces": name}

    async def revoke(self, asked: Asked, name: str) -> Row:
        """Refused from now on, and kept as revoked, so that lists and the log show it. A second time changes nothing."""

        def make(decided: Decided) -> list[Change]:
            body, row, version = self._found(decided, name)
            asked.check(version)
            if row["state"] == "revoked":
                return []
            told = body | {"revoked_at": now_text(), "revoked_by": asked.by}
            return [change(asked, "key.revoke", KEY, name, told, version, body)]

        row = self._row_of(await self._desk.decide(make), name)
        return row | ({"note": IN_CONFIG} if row["source"] == "config" else {})

    async def row(self, name: str) -> Row:
        """One key by its id. Denied (absent)."""
        return self._row_of(await self._desk.current(), name)

    async def id_of(self, word: str, *, newest: bool = False) -> str:
        """The id of the key that a person means: by id, the beginning of its hash, or its name if it is the only one that is good.
        ``newest``: of one that was replaced and what has replaced it, the latter.
        """
        rows = await self.rows()
        for means in ("id", "hash"):
            found = [row for row in rows if row[means] == word]
            if found:
                return str(found[0]["id"])
        named = [row for row in rows if row["name"] == word]
        good = [row for row in named if row["state"] == "active"] or named
        good = [row for row in good if not (newest and row["replaced_by"])] or good
        if len(good) > 1:
            ids = "; ".join(f"{row['id']} ({_since(row)})" for row in good)
            raise Denied("conflict", f"several keys are called so; say which by its id: {ids}")
        if not good:
            raise Denied("absent", f"there is no such key{near(word, [row['name'] for row in rows])}")
        return str(good[0]["id"])

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, wanted: Mapping[str, Any], digest: str) -> tuple[Row, Row | None]:
        """The body of an entry without who and when, and the budget that comes with it. Denied with all that is wrong."""
        problems: list[tuple[str, str]] = []
        body: Row = {}
        budget: Row | None = None
        try:
            body = _fields(wanted, digest)
        except Denied as denied:
            problems += denied.problems
        upstreams = self._desk.settings().upstreams
        problems += [
            (f"upstreams[{index}]", f"there is no upstream of that name{near(each, upstreams)}")
            for index, each in enumerate(wanted.get("upstreams") or ())
            if isinstance(each, str) and each not in upstreams
        ]
        if wanted.get("budget") is not None:
            try:
                budget = _budget(str(wanted.get("name")), wanted["budget"])
            except Denied as denied:
                problems += [(f"budget.{field}".rstrip("."), fault) for field, fault in denied.problems]
        if problems:
            raise given.unfit(*problems)
        return body, budget

    def _check_name(self, decided: Decided, body: Mapping[str, Any]) -> None:
        named = [config_id(each.hash) for each in self._desk.settings().keys if each.name == body["name"]]
        named += [name for name, each in decided.keys.items() if each.body.get("name") == body["name"]]
        for name in named:
            if self._is_known(decided, name) and self._row_of(decided, name)["state"] == "active":
                raise Denied("conflict", f"there is a key of this name ({name}): rotate it, or take another name")

    def _found(self, decided: Decided, name: str) -> tuple[Row, Row, int | None]:
        """The body of an entry as it would be written, its row, and its version."""
        row = self._row_of(decided, name)
        decision, key = decided.keys.get(name), self._of_config(name)
        body = dict(decision.body) if decision is not None else {}
        if key is not None:
            body = (
                {field: _plain(getattr(key, field)) for field in (*FIELDS, "hash")}
                | {"expires": _text(key.expires)}
                | {field: value for field, value in body.items() if field not in FIELDS}
            )
        return body, row, decision.version if decision is not None else None

    # -- telling ------------------------------------------------------------------------------------------------------

    def _rows(self, decided: Decided, search: str) -> list[Row]:
        now = time.time()
        of_config = [self._config_row(each, decided, now) for each in self._desk.settings().keys]
        made = sorted(decided.keys.items(), key=lambda each: each[1].version, reverse=True)
        rows = of_config + [
            _row(name, each.body, "runtime", now, each.version) for name, each in made if not name.startswith(OF_CONFIG)
        ]
        if not search:
            return rows
        looked_at = ("id", "name", "team", "user")
        return [row for row in rows if any(search.lower() in str(row[field]).lower() for field in looked_at)]

    def _config_row(self, key: GatewayKey, decided: Decided, now: float) -> Row:
        name = config_id(key.hash)
        decision = decided.keys.get(name)
        body = {field: _plain(getattr(key, field)) for field in (*FIELDS, "hash")} | {"expires": _text(key.expires)}
        for field in ("expires", "revoked_at"):
            if decision is not None and decision.body.get(field):
                body[field] = decision.body[field]
        return _row(name, body, "config", now, decision.version if decision is not None else None)

    def _row_of(self, decided: Decided, name: str) -> Row:
        now, key, decision = time.time(), self._of_config(name), decided.keys.get(name)
        if key is not None:
            return self._config_row(key, decided, now)
        if decision is None or name.startswith(OF_CONFIG):
            raise Denied("absent", "no key has this id (the list of keys tells the id of each name)")
        return _row(name, decision.body, "runtime", now, decision.version)

    def _of_config(self, name: str) -> GatewayKey | None:
        """The key in the config that goes by this id."""
        if not name.startswith(OF_CONFIG):
            return None
        return next((each for each in self._desk.settings().keys if config_id(each.hash) == name), None)

    def _is_known(self, decided: Decided, name: str) -> bool:
        """Whether it is a key: what was decided of one that has left the config is none."""
        return self._of_config(name) is not None or (name in decided.keys and not name.startswith(OF_CONFIG))


def _fields(wanted: Mapping[str, Any], digest: str) -> Row:
    """What a key may do and when it ends, checked. Denied with all that is wrong."""
    problems: list[tuple[str, str]] = []
    body: Row = {}
    if KEY_TEXT.search(str(wanted.get("name"))):
        problems.append(("name", "is a key itself: give it a name that everybody may see"))
    try:
        block = given.block(GatewayKey, {**{name: wanted.get(name) for name in FIELDS}, "hash": digest})
        body = {field: _plain(getattr(block, field)) for field in (*FIELDS, "hash")}
    except Denied as denied:
        problems += denied.problems
    try:
        body["expires"] = _text(_expires(wanted.get("expires")))
    except Denied as denied:
        problems += denied.problems
    if problems:
        raise given.unfit(*problems)
    return body


def _since(row: Row) -> str:
    """What tells a key from others of its name."""
    made = f"made {row['created_at']}" if row["created_at"] else "in the config"
    return f"replaced, good until {row['expires']}" if row["replaced_by"] else made


def _row(name: str, body: Mapping[str, Any], source: str, now: float, version: int | None) -> Row:
    expires = moment_of(body.get("expires"))
    state = "revoked" if body.get("revoked_at") else "expired" if expires and expires <= now else "active"
    return {
        "id": name,
        **{field: body.get(field) or ([] if field in ("models", "upstreams", "cidr") else "") for field in FIELDS},
        "expires": body.get("expires") or None,
        "state": state,
        "source": source,
        "created_at": body.get("created_at"),
        "created_by": body.get("created_by"),
        "revoked_at": body.get("revoked_at"),
        "revoked_by": body.get("revoked_by"),
        "replaced_by": body.get("replaced_by"),
        "hash": short_hash(str(body["hash"])),
        "version": version,
    }


def _budget(name: str, wanted: Any) -> Row:
    if not isinstance(wanted, Mapping):
        raise given.unfit(("", "must be an object"))
    window, scope = wanted.get("window") or "day", f"key:{name}"
    budget = {**wanted, "window": window, "scope": scope, "name": f"{scope}/{window}"}
    meant = parse_scope(given.block(Budget, budget).scope)
    if len(meant.parts) > 1 or meant.is_general:
        raise given.unfit(("", "cannot be limited by this name, which reads as several scopes, or as all keys"))
    return budget


def _expires(text: Any) -> int:
    """A moment, or a time from now on; Unix seconds, 0 = never."""
    if not text:
        return 0
    moment = expiry(str(text))
    if moment <= time.time():
        raise given.unfit(("expires", "is over already"))
    return moment


def expiry(text: str) -> int:
    """``2027-01-01``, a time, or so long from now (``90d``); Unix seconds. Denied."""
    if text[-1:] in SECONDS:
        return int(time.time() + given.one(duration(1, 100 * YEAR_S), text, "expires"))
    try:
        return int(READERS[MOMENT.name](MOMENT, text))
    except Wrong as wrong:
        raise given.unfit(("expires", f"{wrong}; or so long from now: 90d")) from None


def _same_length(old: Mapping[str, Any], now: float) -> int:
    """A key that was made for so long is followed by one for as long."""
    ends, made = moment_of(old.get("expires")), moment_of(old.get("created_at"))
    if not ends:
        return 0
    return min(int(now + ends - made), LATEST - 1) if made else ends


def _text(moment: int) -> str:
    return str(WRITERS["moment"](moment))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
