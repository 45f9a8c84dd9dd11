"""What the corridor makes up itself."""

from __future__ import annotations

import os
import random
import uuid

from gateway.handle import new_call_id


def test_call_ids_are_uuids_of_version_7_in_the_order_of_their_making() -> None:
    """RFC 9562; lists of calls rely on it."""
    made = [new_call_id() for _ in range(2000)]
    found = [uuid.UUID(each) for each in made]
    assert {(each.version, each.variant) for each in found} == {(7, uuid.RFC_4122)}
    assert len(set(made)) == len(made)
    # two that fall into one quarter of a microsecond would be in any order
    assert [each.int >> 68 for each in found] == sorted(each.int >> 68 for each in found)


def test_a_seed_makes_no_two_calls_one() -> None:
    """Whoever seeds Python's generator (tests, notebooks, forked workers) changes nothing here."""
    random.seed(1)
    first = new_call_id()
    random.seed(1)
    assert new_call_id()[19:] != first[19:]


def test_a_forked_process_names_its_calls_otherwise() -> None:
    """Randomness that was fetched before a fork is nobody's after it."""
    new_call_id()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_call_id().encode())
        os._exit(0)
    mine = new_call_id()
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode()[19:] != mine[19:]
    os.close(reading)
    os.close(writing)
