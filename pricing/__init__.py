"""Prices of LLM calls: a library of its own, on the standard library only.

``Book.load()`` reads dated price rows from the package (and an operator's overrides), ``book.tariff(provider, model, at)``
finds the rates of a model at a moment, ``price(usage, tariff)`` makes a Cost: exact in integers, rounded once. It knows no
gateway, no config and no clock. Laws: no floats near money; unknown is never free.
"""
