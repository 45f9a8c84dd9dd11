"""``@value``, as ``pricing`` has it: a frozen dataclass to the type checker and to readers, a plain one at run time."""

from pricing.value import FROZEN, value

__all__ = ["FROZEN", "value"]
