"""The labels of a call, and the bound that no caller's names can pass.

Values come from callers. Each label keeps the first so many values and calls the rest ``other``; of combinations of values
there are so many in all, since the product of bounded labels is still huge. What is folded is still counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from gateway.call import Record
from gateway.observe.series import OTHER

TAG = "tags."
MAX_LABEL_CHARS = 64
KEPT = "provider"
"""A combination that is one too many keeps this label: providers come from the config, and are few."""

Values = tuple[str, ...]


def label_name(wanted: str) -> str:
    """What the config calls ``tags.cost-center`` is the label ``tag_cost_center``: Prometheus has letters, digits and _ only."""
    tag = wanted.removeprefix(TAG)
    return wanted if tag == wanted else "tag_" + tag.replace("-", "_").replace(".", "_")


class Labels:
    """``wanted`` are the caller's labels that the config keeps: fields of a record, and ``tags.NAME``. ``names`` are those
    of a call: them, ``more`` fields of a record, ``provider`` and ``model``.
    """

    def __init__(self, wanted: Sequence[str], max_values: int, max_combinations: int, more: Sequence[str] = ()) -> None:
        fields = [label for label in wanted if not label.startswith(TAG)]
        self._tags = [label.removeprefix(TAG) for label in wanted if label.startswith(TAG)]
        self.of_callers: Values = tuple(map(label_name, [each for each in wanted if each.startswith(TAG)] + fields))
        self.names: Values = (*self.of_callers, *more, "provider", "model")
        self._read = attrgetter(*fields, *more, "provider", "model_served")
        self._max_values = max_values
        self._max_combinations = max_combinations
        self.room = max_combinations + max_values + 1
        """So many combinations there can be, those included that only keep their provider."""
        self._values: dict[str, set[str]] = {}
        self._combinations: set[Values] = set()

    def raw(self, record: Record) -> Values:
        """The values of ``names`` as the call has them: not to be shown, but to look up what ``bounded`` made of them."""
        values: Values = self._read(record)
        if not values[-1]:
            values = (*values[:-1], record.model_requested)
        if self._tags:
            tags = record.tags
            return (*[tags.get(tag, "") for tag in self._tags], *values)
        return values

    def bounded(self, raw: Values) -> Values:
        """The values of ``names`` that can be shown."""
        values = tuple(map(self.value, self.names, raw))
        if values in self._combinations:
            return values
        if len(self._combinations) >= self._max_combinations:
            return tuple([value if name == KEPT else OTHER for name, value in zip(self.names, values, strict=True)])
        self._combinations.add(values)
        return values

    def value(self, label: str, value: str) -> str:
        """The value, or ``other`` once the label has as many values as it may."""
        value = value[:MAX_LABEL_CHARS]
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= self._max_values:
            return OTHER
        known.add(value)
        return value
