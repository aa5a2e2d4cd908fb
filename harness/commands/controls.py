"""`bench controls`: what random directions do on an organism, measured once and kept beside it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ..options import whole_numbers
from ..terminal import Debug, JsonFlag, handled, say, silenced

if TYPE_CHECKING:
    from ...organisms.organism import Organism

app = typer.Typer(
    no_args_is_help=True,
    help="Random controls that are shipped with an organism, so that scoring a method on it does not measure them again.",
)
DRAWS = 64
"""Isotropic controls that are shipped: p-values go down to 1/65."""


@app.command("build")
def controls_build(
    organisms: Annotated[list[str], typer.Argument(help="Organisms, `family/variant`.")],
    draws: Annotated[int, typer.Option("--draws", min=3, help="Random directions.")] = DRAWS,
    findings: Annotated[
        str | None,
        typer.Option(
            "--findings",
            help="For methods of so many findings, e.g. 1,10 (10: or more); for others they are measured when one comes. Default: all.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure the random controls of organisms and write them down beside them; what was interrupted goes on."""
    with handled(debug):
        from ...organisms.organism import CONTROLS
        from ..cache import Cache
        from ..protocol.effects import Scorer
        from ..records.settings import PROTOCOL_V2
        from ..runs.stage import Stage

        numbers = whole_numbers(findings, "--findings", "1,10", least=1) if findings is not None else None
        protocol, cache = PROTOCOL_V2.model_copy(update={"controls": draws}), Cache.of_user()
        for found in [_organism(name) for name in organisms]:
            with silenced(False):
                stage = Stage.load(found, protocol=protocol, cache=cache)
                scorer = Scorer(stage.pair, found.behaviour, stage.texts, protocol, stage.kept_of_prompts)
                path = found.adapter / CONTROLS
                scorer.controls.packed(stage.control_key, numbers).write(path)
            say(f"{found.name}: {draws} controls, {path.stat().st_size / 1e3:.0f} kB in {path}")


@app.command("verify")
def controls_verify(
    organism: Annotated[str, typer.Argument(help="Organism, `family/variant`.")],
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Draws of each null that are measured again, picked at random.")
    ] = 3,
    as_json: JsonFlag = False,
    debug: Debug = False,
) -> None:
    """Measure some of an organism's shipped controls again, and compare."""
    with handled(debug):
        from ...organisms.errors import PrerequisiteError, ValidationFailed
        from ..records.control_pack import matching
        from ..runs.stage import Stage

        found = _organism(organism)
        with silenced(False):
            stage = Stage.load(found)
            pack = matching(found.controls, stage.control_key)
            if pack is None:
                raise PrerequisiteError(
                    f"no controls of {organism} as it is now stand beside it; build them with `bench controls build {organism}`"
                )
            compared, worst = stage.scorer.controls.measured_again(pack, sample)
        if as_json:
            say(json.dumps({"organism": organism, "values": compared, "largest_difference": worst}))
        else:
            say(f"{organism}: {compared:,} values of {sample} draws of each null, largest difference {worst:.1e}")
        if not worst <= TOLERANCE:
            raise ValidationFailed(f"controls of {organism} differ by {worst:.3g}: build them again")


TOLERANCE = 1e-4
"""Of shares and nats: processors round differently."""


def _organism(name: str) -> "Organism":
    """An organism that can have controls of its own."""
    from ...organisms.errors import UsageError
    from ...organisms.registry import load_organism

    found = load_organism(name)
    if found.role == "null":
        raise UsageError(
            f"nothing is hidden in {name}, so there is no score whose zero random directions could be; name another organism"
        )
    return found
