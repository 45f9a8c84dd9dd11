"""The ``tollgate`` command. Each subcommand is a file of its name, imported only when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from gateway import __version__
from gateway.cli.manual import Program, meant

COMMANDS = {
    "serve": "Run the gateway.",
    "demo": "Run the gateway with a pretend provider and sample traffic: no key, no network.",
    "check": "Validate a config and show what it resolves to.",
    "status": "Ask a running gateway how it does.",
    "calls": "Show the latest calls, follow new ones, or show one in full.",
    "keys": "Make, list, replace and revoke gateway keys.",
    "budgets": "Show budgets, and set, change or reset them while gateways run.",
    "changes": "Show what operators have changed, and why.",
    "annotate": "Say what happened: a mark beside the curves of dashboards.",
    "price": "Price one usage and show the rates.",
    "report": "Show what was spent, by day, week or month, and by whom.",
    "audit": "Work every recorded call out again and hold the accounts against the records.",
    "correct": "Hold what calls were charged against today's prices, and book the differences.",
    "reconcile": "Hold a provider's usage and cost export against the books.",
    "completion": "Print the script by which a shell completes commands and names.",
}


class _Commands(Program):
    """Subcommands by name, with a suggestion for a misspelt one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"gateway.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'.{meant(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tollgate")
def main() -> None:
    """Tollgate, an LLM gateway: changes no byte, loses no cent, costs nothing to have, shows everything."""
