"""What operators decide at run time, in every store: all or none, each with the next revision, and never forgotten."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.changes import Change, Conflict, Entry
from tests.promise.test_store import opened  # noqa: F401 - a fixture

AT = "2026-11-21T12:00:00Z"


def change(
    name: str, body: bytes | None = b'{"a":1}', *, kind: str = "key", expected: int | None = None, **more
) -> Change:
    return Change(
        kind, name, body, AT, more.get("by", "ann"), more.get("action", "key.create"), more.get("reason", ""), expected
    )


async def test_an_entry_is_seen_by_all_processes(opened):  # noqa: F811
    async with opened("one") as one, opened("two") as two:
        assert await one.revision() == 0
        assert await one.entries() == []
        made = await one.change([change("a"), change("b", b'{"b":"\xc3\xa9"}', kind="budget")])
        assert made == [Entry("key", "a", 1, b'{"a":1}'), Entry("budget", "b", 2, b'{"b":"\xc3\xa9"}')]
        for store in (one, two):
            assert await store.revision() == 2
            assert await store.entries() == made
            assert await store.entries(1) == made[1:]
            assert await store.entries(2) == []
    async with opened("three") as later:
        assert await later.entries() == made, "they survive the processes that made them"


async def test_what_is_taken_away_is_heard_of(opened):  # noqa: F811
    async with opened() as store:
        await store.change([change("a"), change("b")])
        await store.change([change("a", None, action="key.revoke")])
        assert await store.entries() == [Entry("key", "b", 2, b'{"a":1}'), Entry("key", "a", 3, None)]
        await store.change([change("a", b"{}", expected=0)])
        assert (await store.entries(3)) == [Entry("key", "a", 4, b"{}")]


async def test_who_expects_another_version_changes_nothing(opened):  # noqa: F811
    """All of them or none: the first one of two would have been possible."""
    async with opened() as store:
        await store.change([change("a")])
        assert await store.change([change("b"), change("a", b"{}", expected=0)]) == Conflict("key", "a", 1)
        assert await store.change([change("b"), change("a", b"{}", expected=7)]) == Conflict("key", "a", 1)
        assert await store.change([change("none", b"{}", expected=3)]) == Conflict("key", "none", 0)
        assert await store.revision() == 1
        assert await store.entries() == [Entry("key", "a", 1, b'{"a":1}')]
        assert len(await store.changes(10)) == 1
        assert await store.change([change("b", expected=0), change("a", b"{}", expected=1)]) == [
            Entry("key", "b", 2, b'{"a":1}'),
            Entry("key", "a", 3, b"{}"),
        ]


async def test_every_change_has_a_line_with_before_and_after(opened):  # noqa: F811
    async with opened() as store:
        await store.change([change("a", by="ann", reason="a new\napp")])
        await store.change([change("a", b'{"a":2}', by="bob", action="key.rotate")])
        await store.change([change("a", None, by="bob", action="key.revoke", reason="leaked é")])
        lines = await store.changes(10)
        assert [(each.revision, each.by, each.action, each.before, each.after, each.reason) for each in lines] == [
            (3, "bob", "key.revoke", b'{"a":2}', None, "leaked é"),
            (2, "bob", "key.rotate", b'{"a":1}', b'{"a":2}', ""),
            (1, "ann", "key.create", None, b'{"a":1}', "a new\napp"),
        ]
        assert {(each.at, each.kind, each.name) for each in lines} == {(AT, "key", "a")}
        assert await store.changes(1) == lines[:1]
        assert await store.changes(10, before=3) == lines[1:]
        assert await store.changes(1, before=3) == lines[1:2]
        assert await store.changes(10, before=1) == []


async def test_of_many_who_expect_the_same_version_one_wins(opened):  # noqa: F811
    async with opened("one") as one, opened("two") as two:
        await one.change([change("a", b"0")])
        tried = [
            store.change([change("a", str(number).encode(), expected=1)])
            for number, store in enumerate([one, two] * 10, start=1)
        ]
        made = await asyncio.gather(*tried)
        assert sum(not isinstance(each, Conflict) for each in made) == 1
        assert await one.revision() == 2


async def test_what_is_no_entry_is_refused(opened):  # noqa: F811
    async with opened() as store:
        for wrong in (
            [],
            [change("a"), change("a")],
            [change("")],
            [change("x" * 257)],
            [change("a", kind="k y")],
            [change("a", b"x" * 70_000)],
            [change(str(number)) for number in range(101)],
        ):
            with pytest.raises(ValueError, match=r"entry|changes"):
                await store.change(wrong)
        assert await store.revision() == 0


async def test_what_redis_forgets_is_put_back(opened):  # noqa: F811
    """Flushed while gateways run: a key that was taken away stays away, what was decided meanwhile holds."""
    async with opened("one") as one, opened("two") as two:
        if not hasattr(one, "_link"):
            pytest.skip("a file forgets nothing")
        await one.change([change("kept"), change("gone"), change("again", b'"old"')])
        await one.change([change("gone", None, action="key.revoke")])
        assert len(await two.entries()) == 3
        await one._link.commands.flushdb()
        await one.change([change("again", b'"new"', expected=0)])
        assert await two.revision() == 5, "puts back what it remembers"
        assert await two.entries(4) == [Entry("key", "again", 5, b'"new"')]
        assert await one.revision() == 5
        assert {(each.name, each.body) for each in await one.entries()} == {
            ("kept", b'{"a":1}'),
            ("gone", None),
            ("again", b'"new"'),
        }
        assert [each.revision for each in await one.changes(10)] == [1], "the log has no second copy"
        await one.change([change("later")])
        assert [each.revision for each in await one.changes(10)] == [6, 1]
        assert [each.revision for each in await one.changes(10, before=6)] == [1]


async def test_a_replica_that_lagged_brings_back_nothing_that_was_decided_otherwise(opened):  # noqa: F811
    """A key that was revoked stays revoked, what was taken away stays away; what was decided since the replica took over holds."""
    async with opened("one") as one, opened("two") as two:
        if not hasattr(one, "_link"):
            pytest.skip("a file does not lag")
        keys, commands = one._entries._keys, one._link.commands
        names = (keys.entries, keys.versions, keys.log, keys.revision)
        await one.change([change("key"), change("same"), change("gone"), change("again"), change("twice", b'"active"')])
        await one.change([change("twice", b'"raised"')])
        assert len(await two.entries()) == 5
        lagged = [await commands.dump(name) for name in names]
        await one.change([change("key", b'"revoked"'), change("gone", None), change("twice", b'"lowered"')])
        assert len(await two.entries(6)) == 3
        for name, text in zip(names, lagged, strict=True):
            await commands.restore(name, 0, text, replace=True)
        async with opened("another") as later:
            await later.change([change("again", b'"decided since"', expected=4), change("new")])

            assert await two.revision() == 11
            assert {(each.name, each.version, each.body) for each in await later.entries()} == {
                ("same", 2, b'{"a":1}'),
                ("key", 7, b'"revoked"'),
                ("gone", 8, None),
                ("twice", 9, b'"lowered"'),
                ("again", 10, b'"decided since"'),
                ("new", 11, b'{"a":1}'),
            }
            assert [each.version for each in await two.entries(9)] == [10, 11]
            assert await one.revision() == await two.revision() == 11


async def test_what_an_older_copy_of_redis_says_does_not_hold_again(opened):  # noqa: F811
    """A replica that lagged takes over: a key that was revoked since stays revoked, a budget that was lowered stays low."""
    async with opened("one") as one, opened("two") as two:
        if not hasattr(one, "_link"):
            pytest.skip("a file forgets nothing")
        await one.change([change("gone"), change("low", b'"10"')])
        await two.entries()
        commands = one._link.commands
        copy = {key: await commands.dump(key) async for key in commands.scan_iter("*")}
        await one.change([change("gone", None, action="key.revoke"), change("low", b'"5"')])
        await one.entries()
        await commands.flushdb()
        for key, text in copy.items():
            await commands.restore(key, 0, text)
        assert await one.revision() == 4
        for store in (one, two):
            assert {each.name: each.body for each in await store.entries()} == {"gone": None, "low": b'"5"'}


async def test_whoever_puts_back_first_hides_nothing_that_others_know(opened):  # noqa: F811
    async with opened("one") as one, opened("two") as two:
        if not hasattr(one, "_link"):
            pytest.skip("a file forgets nothing")
        await one.change([change("gone"), change("low", b'"10"')])
        await two.entries()
        await one.change([change("gone", None, action="key.revoke"), change("low", b'"5"')])
        await one.entries()
        await one._link.commands.flushdb()
        assert await two.revision() == 2, "has not heard of the last two changes"
        assert await one.revision() == 4
        assert {each.name: each.body for each in await two.entries(2)} == {"gone": None, "low": b'"5"'}


async def test_whoever_follows_misses_nothing_that_changes_meanwhile(opened):  # noqa: F811
    async with opened("one") as one, opened("two") as two:
        known: dict[str, bytes | None] = {}
        seen = 0

        async def follow() -> None:
            nonlocal seen
            for entry in await two.entries(seen):
                known[entry.name] = entry.body
                seen = max(seen, entry.version)

        async def decide() -> None:
            for number in range(300):
                await one.change([change(f"k{number}"), change("all", str(number).encode())])

        deciding = asyncio.create_task(decide())
        while not deciding.done():
            await follow()
        await deciding
        await follow()
        assert known == {each.name: each.body for each in await one.entries()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.binary(min_size=1, max_size=3)), st.integers(-1, 3)),
        max_size=12,
    )
)
async def test_like_a_dictionary(opened, steps):  # noqa: F811
    """Against a plain model, with any names, bodies and expectations."""
    async with opened() as store:
        base = await store.revision()
        seen = base
        names: dict[str, tuple[int, bytes | None]] = {
            each.name: (each.version, each.body) for each in await store.entries()
        }
        for name, text, guess in steps:
            body = text.hex().encode() if text is not None else None
            version = names[name][0] if names.get(name, (0, None))[1] is not None else 0
            expected = None if guess < 0 else version if guess > 1 else guess
            made = await store.change([change(name, body, expected=expected)])
            if expected is not None and expected != version:
                assert made == Conflict("key", name, version)
                continue
            base += 1
            names[name] = (base, body)
            assert made == [Entry("key", name, base, body)]
        assert await store.revision() == base
        assert {each.name: (each.version, each.body) for each in await store.entries()} == names
        assert [each.version for each in await store.entries(seen)] == sorted(v for v, _ in names.values() if v > seen)


async def test_the_log_takes_what_was_before_from_the_change_where_there_is_no_entry(opened):  # noqa: F811
    """An entry says better what was before; nothing but the log hears of it."""
    async with opened() as store:
        for body in (b'{"a":1}', b'{"a":2}', None, b'{"a":3}'):
            await store.change([Change("budget", "a", body, AT, "ann", "budget.set", before=b'{"a":0}'), change("b")])
        lines = [(each.before, each.after) for each in await store.changes(10) if each.name == "a"]
        assert lines == [
            (b'{"a":0}', b'{"a":3}'),
            (b'{"a":2}', None),
            (b'{"a":1}', b'{"a":2}'),
            (b'{"a":0}', b'{"a":1}'),
        ]
        assert await store.entries(6) == [Entry("budget", "a", 7, b'{"a":3}'), Entry("key", "b", 8, b'{"a":1}')]
