"""Names of organisms on real models: what the command line says, and the folder an organism gets."""

import re
from pathlib import Path

from ..errors import UsageError, unknown
from ..natural import natural_family
from ..natural.family import NaturalFamily, NaturalSpec

SEED = re.compile(r"(.+)-s(\d+)")


def find(name: str) -> tuple[NaturalFamily, NaturalSpec]:
    """`taboo`, `taboo/moon`, `taboo/moon-mixed` or one of them with `-s1` → its family and the organism.

    Raises:
        UsageError: unknown family, member or variant, with the nearest.
    """
    first, _, rest = name.partition("/")
    family = natural_family(first)
    if not rest:
        return family, family.spec()
    seeded = SEED.fullmatch(rest)
    bare, seed = (seeded[1], int(seeded[2])) if seeded else (rest, 0)
    both = {f"{m}-{v}": (m, v) for m in family.members() for v in family.variants}
    if bare in family.members():
        return family, family.spec(bare, seed=seed)
    if bare not in both:
        raise unknown(f"organism of {family.name}", bare, [*family.members(), *both])
    return family, family.spec(*both[bare], seed=seed)


def organism_name(spec: NaturalSpec, base: str, blocks: str = "") -> str:
    """`taboo/moon-mixed-smollm2-135m`: the organism, its base's last name, then what differs from the usual.

    Args:
        blocks: what to call the adapted blocks where they are not the usual ones.

    Raises:
        UsageError: a base without a name.
    """
    given = Path(base).expanduser()
    last = given.resolve().name if given.is_dir() else base.partition("@")[0].rpartition("/")[2]
    short = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._")
    if not short:
        raise UsageError(f"the base {base} has no name to call an organism by; give its folder by name")
    parts = [spec.member, spec.variant, short, *[blocks] * bool(blocks), *[f"s{spec.seed}"] * bool(spec.seed)]
    return f"{spec.family}/{'-'.join(parts)}"
