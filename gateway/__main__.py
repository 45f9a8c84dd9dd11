"""``python -m gateway`` is the ``tollgate`` command."""

from gateway.cli import main

main()
