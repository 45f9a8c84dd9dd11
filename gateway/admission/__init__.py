"""Admission: may this call go ahead, and how much is set aside for it? Decides; never asks, never waits.

``identity`` reads who asks, ``bounds`` what the call can cost, ``windows`` in which stretch of the calendar, ``budgets``
which claims follow from it. Everything here is quiet: the moment is an argument, and so is a fresh id.
"""
