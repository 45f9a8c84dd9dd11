"""The shape of a command: a help that is a manual, words that are guessed right, errors in one form, one exit status each.

``click``'s own commands with what a manual page has beside options: examples, what each exit status means here, which variables
and files are read. ``scripts/reference`` writes docs/reference/cli.md from the same.
"""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

EVERYWHERE = {
    "NO_COLOR": "No colours and no lines in tables, if it is set to anything (no-color.org).",
    "TOLLGATE_TRACEBACK": "Set to 1: a bug shows its traceback.",
}
CONFIG_VARIABLES = {
    "TOLLGATE_CONFIG": "The config file, where --config does not name one.",
    "${NAME}": "Any variable that the config names.",
}
CONFIG_FILES = {
    "./tollgate.yaml": "The config file, where nothing else names one.",
    "store.url": "The books: by default ./tollgate.db.",
}
USUAL_SECTION = "Options"


class Option(click.Option):
    """An option that stands in a section of the help."""

    def __init__(self, *args: Any, section: str = USUAL_SECTION, **more: Any) -> None:
        super().__init__(*args, **more)
        self.section = section


option = functools.partial(click.option, cls=Option)
json_option = option("--json", "as_json", is_flag=True, help="Print JSON, for a script.", section="Output")


class Word(click.Choice[str]):
    """One of some words; a misspelt one is answered with the one meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """With a guess."""
        return f"{str(value)!r} is not one of {', '.join(map(str, self.choices))}.{meant(str(value), self.choices)}"


def meant(word: str, known: Iterable[str]) -> str:
    """A question to put behind a sentence, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


class Command(click.Command):
    """``examples``: (what for, the line); ``exits``: what a status means here; ``variables``, ``files``: name to what it is for."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        exits: Mapping[int, str] | None = None,
        variables: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.examples = examples
        self.exits = exits or {}
        self.variables = variables or {}
        self.files = files or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options section by section, then what else a manual page has."""
        for title, records in sections(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for says, line in self.examples:
                    formatter.write(f"  {line}\n      {says}\n")
        for title, told in self.told().items():
            with formatter.section(title):
                formatter.write_dl(list(told.items()))

    def told(self) -> dict[str, dict[str, str]]:
        """Exit status, environment and files, each a name with what it is for."""
        exits = {str(status): says for status, says in {0: "Done.", **self.exits}.items()}
        told = {"Exit status": exits, "Environment": {**self.variables, **EVERYWHERE}, "Files": dict(self.files)}
        return {title: each for title, each in told.items() if each}


def sections(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """The options with their sentences, by section; the usual section comes last."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and isinstance(parameter, click.Option):
            found.setdefault(getattr(parameter, "section", USUAL_SECTION), []).append(record)
    last = found.pop(USUAL_SECTION, [])
    return found | ({USUAL_SECTION: last} if last else {})


class Program(click.Group):
    """The command itself: whatever ends it early is told in one form, with one of the statuses of ``output.EXITS``."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "tollgate",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **more: Any,
    ) -> Any:
        """Run it and leave with its status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **more)
        sys.exit(self._status(args, prog_name or "tollgate", complete_var, **more))

    def invoke(self, ctx: click.Context) -> Any:
        """Here, because ``click`` makes a status 1 of a reader that went away, which would be an answer."""
        try:
            try:
                found = super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            from gateway.cli.output import NO_READER

            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # or the interpreter complains when it flushes
            ctx.exit(NO_READER)
        return found

    def _status(self, args: Sequence[str] | None, prog_name: str, complete_var: str | None, **more: Any) -> int:
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **more)
        except Exception as error:
            return _told(error)
        except KeyboardInterrupt:
            return _told(click.Abort())
        return status if isinstance(status, int) else 0


def _told(error: Exception) -> int:
    """Say what ended a command; returns its status."""
    from gateway.cli import output
    from gateway.errors import Failure

    if isinstance(error, click.Abort):
        click.echo("tollgate: interrupted", err=True)
        return output.INTERRUPTED
    if isinstance(error, click.ClickException):
        return _refused(error)
    if isinstance(error, Failure):
        output.complain(error.message)
        return output.UNREACHABLE
    if isinstance(error, OSError) and error.filename is not None:
        output.complain(f"{error.filename}: {error.strerror}")
        return output.WRONG_USE
    if os.environ.get("TOLLGATE_TRACEBACK"):
        raise error
    output.complain(
        f"this is a bug of Tollgate: {type(error).__name__}", "TOLLGATE_TRACEBACK=1 shows where, for a report of it."
    )
    return output.BUG


def _refused(error: click.ClickException) -> int:
    from gateway.cli import output

    if type(error).__name__ == "NoArgsIsHelpError":  # a class of click 8.2 and later
        error.show()
        return error.exit_code
    hint = getattr(error, "hint", "")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = hint or f"Try '{error.ctx.command_path} --help'."
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [
            name for parameter in error.ctx.command.get_params(error.ctx) for name in parameter.opts if name[0] == "-"
        ]
        message = f"No such option '{error.option_name}'.{meant(error.option_name, known)}"
    output.complain(message, hint)
    return error.status if isinstance(error, output.Problem) else error.exit_code
