"""`convcalc export`: our network spec out of anything that can be read."""

from __future__ import annotations

from typing import Annotated

import typer

from convcalc.cli import options


def export_command(
    model: options.ModelOrNone = None,
    source: options.Source = None,
    input: options.InputSize = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="YAML instead of JSON.")] = False,
    output: options.Output = None,
) -> None:
    """Write a network as our spec, which every command reads."""
    import json

    from convcalc.cli.tables import emit
    from convcalc.readers.spec import write_spec

    spec = write_spec(options.loaded(model, source, options.input_sizes(input)))
    if yaml:
        import yaml as writer

        emit(writer.safe_dump(spec, sort_keys=False, default_flow_style=None, width=100), output)
    else:
        emit(json.dumps(spec, indent=1), output)
