"""What the gate says: ratios of one run against limits that are kept in the repository. Pure: numbers in, words out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The ratio that a change was last made with, and the share by which noise may pass it."""

    ratio: float
    allowance: float

    @property
    def most(self) -> float:
        return self.ratio * (1 + self.allowance)


def limits(given: Mapping[str, Mapping[str, float]]) -> dict[str, Limit]:
    """As ``limits.json`` has them, by measure; KeyError and ValueError where one is not what a limit can be."""
    found = {name: Limit(float(each["ratio"]), float(each["allowance"])) for name, each in given.items()}
    for name, limit in found.items():
        if limit.ratio <= 0 or limit.allowance < 0:
            raise ValueError(f"{name}: a ratio is above 0 and an allowance not below it")
    return found


def ratio(rounds: Sequence[tuple[float, float]]) -> float:
    """The median over rounds of (ours, the other's): the two of a round met the same noise, those of a run did not."""
    return statistics.median(ours / other for ours, other in rounds)


def beyond(ratios: Mapping[str, float], allowed: Mapping[str, Limit]) -> list[str]:
    """The measures whose ratio passes its limit. One that was not measured passes it: a gate that measures nothing is open."""
    return [name for name, limit in allowed.items() if not ratios.get(name, float("inf")) <= limit.most]


def line(name: str, found: float, limit: Limit) -> str:
    """Both numbers, for the log of CI; and that the limit has grown too wide, once it has."""
    word = "BEYOND" if beyond({name: found}, {name: limit}) else "within"
    wide = "; the limit can be lowered" if found * (1 + limit.allowance) < limit.ratio else ""
    return (
        f"{word}  {name}: {found:.2f}x (limit {limit.most:.2f}x = {limit.ratio:.2f}x and {limit.allowance:.0%}){wide}"
    )


def passed(
    measure: Callable[[Collection[str]], Mapping[str, float]], allowed: Mapping[str, Limit], say: Callable[[str], None]
) -> list[str]:
    """The limits that were passed in both of two attempts: noise passes one, too. The second measures only what the first found."""
    suspects = list(allowed)
    for attempt in (1, 2):
        found = measure(suspects)
        for name in suspects:
            say(line(name, found.get(name, float("nan")), allowed[name]))
        suspects = beyond(found, {name: allowed[name] for name in suspects})
        if not suspects:
            break
        if attempt == 1:
            say("measured once more, since noise passes a limit too:")
    return suspects
