"""`bench mitigate`: parse, call, print; nothing heavy is imported before the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from ..options import whole_numbers
from ..terminal import Debug, JsonFlag, handled, say, show, silenced


def mitigate(
    folder: Annotated[Path, typer.Argument(help="Run folder of a scored cell with findings.", metavar="RUN_DIR")],
    k: Annotated[
        str, typer.Option("--k", help="How many of the first findings are projected out; comma list.")
    ] = "1,3,10",
    controls: Annotated[
        int, typer.Option("--controls", min=0, max=16, help="Sets of random directions trained without, for each k.")
    ] = 2,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the record.  [default: mitigation.json in the run folder]")
    ] = None,
    organism: Annotated[
        str | None, typer.Option("-o", "--organism", help="What the run was made on, if not in the zoo: my.py:member.")
    ] = None,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Train the organism again with a run's findings projected out, and measure what became of its behaviour.

    One training for each k and control, and one with nothing projected out; each takes about as long as building the organism.
    """
    with handled(debug):
        from ..files import atomic_write_text

        def tell(line: str) -> None:
            say(line, err=True)

        ks = whole_numbers(k, "--k", "1,3,10", least=1)
        with silenced(False):
            from ..studies.concept_ablation import destination
            from ..studies.concept_ablation import mitigate as train_again
            from ..views import concept_ablation as mitigate_view

            path = destination(folder, out)
            found = train_again(folder, ks, controls, tell, organism)
        atomic_write_text(path, found.model_dump_json(indent=1) + "\n")
        if as_json:
            say(found.model_dump_json(indent=1))
        else:
            show(mitigate_view.table(found))
        tell(f"saved to {path}")
