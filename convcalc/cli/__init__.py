"""The command line.  Each command is a module; what it needs is imported when it runs."""

from __future__ import annotations

import sys

import typer

from convcalc.cli.advise import advise_command
from convcalc.cli.analyze import analyze_command
from convcalc.cli.compare import compare_command
from convcalc.cli.conv import conv_command
from convcalc.cli.devices import devices_command
from convcalc.cli.export import export_command
from convcalc.cli.filter import filter_command
from convcalc.cli.fit import fit_command
from convcalc.cli.memory import memory_command
from convcalc.cli.serve import serve_command
from convcalc.cli.sweep import sweep_command
from convcalc.cli.verify import verify_command
from convcalc.cli.zoo import zoo_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What a convolutional network costs, before it is run.",
)
app.command("conv")(conv_command)
app.command("advise")(advise_command)
app.command("analyze")(analyze_command)
app.command("compare")(compare_command)
app.command("devices")(devices_command)
app.command("export")(export_command)
app.command("filter")(filter_command)
app.command("fit")(fit_command)
app.command("memory")(memory_command)
app.command("sweep")(sweep_command)
app.command("serve")(serve_command)
app.command("verify")(verify_command)
app.command("zoo")(zoo_command)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """What a convolutional network costs, before it is run."""
    if version:
        from convcalc import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every error on purpose is one line on stderr and an exit code."""
    from convcalc.errors import ConvcalcError

    try:
        app()
    except ConvcalcError as error:
        message = " ".join(str(error).split())
        print(f"convcalc: {message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read us has had enough (`| head`); nothing is wrong.
        sys.stderr.close()
        sys.exit(0)
