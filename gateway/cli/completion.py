"""``tollgate completion``: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click

from gateway.cli.manual import Command, Word

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    examples=(
        ("bash, for this session; in ~/.bashrc for all.", 'eval "$(tollgate completion bash)"'),
        ("zsh, below compinit in ~/.zshrc.", 'eval "$(tollgate completion zsh)"'),
        ("fish, for all sessions.", "tollgate completion fish > ~/.config/fish/completions/tollgate.fish"),
    ),
)
@click.argument("shell", type=Word(SHELLS))
def completion(shell: str) -> None:
    """Print the script by which SHELL (bash, zsh or fish) completes commands, options, models, dimensions and calls."""
    from click.shell_completion import get_completion_class

    from gateway.cli import main

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"this version of click knows no {shell}.")
    script = found(main, {}, "tollgate", "_TOLLGATE_COMPLETE")
    text = script.source_template % script.source_vars()
    click.echo(text.replace('string split ","', 'string split --max 1 ","'))  # fish: a list with commas is one word
