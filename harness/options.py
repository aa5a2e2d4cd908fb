"""Options that several commands share: what is looked at, on what machine, and where results go."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--method",
        help="Method name, NAME@published or file.py; comma list or repeated; `all` for every built-in, `published` for those with "
        "settings of their papers that are not our defaults.",
    ),
]
OrganismOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--organism",
        help="taboo, taboo/gold-mixed, hub/NAME, my_family.py, my.yaml, a set (`core-v2`) or `all`; comma list or repeated.",
    ),
]
TierOption = Annotated[
    Literal["tiny", "small", "hub"] | None,
    typer.Option("--tier", help="Of which size `-o FAMILY` and `-o all` are: tiny, small or hub.  [default: tiny]"),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", envvar="BENCH_OUT", help="Folder for run folders.  [default: runs]")
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Run finished cells again.")]
LayerOption = Annotated[
    int | None, typer.Option("--layer", help="Hooked block.  [default: the organism's]", show_default=False)
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Hooked block, or a comma list: each in turn, with the anchors and a figure.  [default: the organism's]",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", help="Only so many prompts a split, at least 8: a quick look, in no table.", show_default=False
    ),
]
SinksOption = Annotated[
    str | None,
    typer.Option(
        "--sinks", help="First positions, special tokens, outliers: drop or keep.  [default: drop on real models]"
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", envvar="BENCH_DEVICE", help="cpu, cuda, cuda:N or mps.  [default: cpu]")
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, bfloat16 or float16.  [default: float32 on a cpu, else bfloat16]"),
]
DeviceMapOption = Annotated[
    str | None, typer.Option("--device-map", help="Spread a model over devices, as transformers does: auto.")
]
BackendOption = Annotated[
    str | None, typer.Option("--backend", help="What runs the models: hooks or nnsight.  [default: hooks]")
]
RemoteFlag = Annotated[
    bool | None, typer.Option("--remote", help="With --backend nnsight: run the models on NDIF (docs/nnsight.md).")
]
NoCacheFlag = Annotated[
    bool, typer.Option("--no-cache", help="Measure everything anew and keep nothing of it (see `bench cache`).")
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="Your own pair: the base; a folder, org/repo, org/repo/subfolder or org/repo@revision, or a fetched base.",
    ),
]
AdapterOption = Annotated[str | None, typer.Option("--adapter", help="Your own pair: LoRA adapter of the base.")]
OnOption = Annotated[str | None, typer.Option("--on", help="Your own pair: LoRA adapter under both sides.")]
TunedOption = Annotated[
    str | None, typer.Option("--tuned", help="Your own pair: fine-tuned model, instead of an adapter.")
]
OtherBaseFlag = Annotated[
    bool, typer.Option("--allow-other-base", help="Accept an adapter that says it was trained on another base.")
]
BehaviourOption = Annotated[
    Path | None,
    typer.Option("--behaviour", help="Your own pair: behaviour file (JSON; see `bench schema behaviour`)."),
]
TextsOption = Annotated[
    Path | None,
    typer.Option("--texts", help="Your own pair, or hub/NAME: YAML file of large text sources (docs/real-models.md)."),
]
QuietFlag = Annotated[bool, typer.Option("-q", "--quiet", help="Only the table, or nothing with --json.")]
VerboseFlag = Annotated[
    bool, typer.Option("-v", "--verbose", help="Also show the log, and a line for each number of a cell.")
]
TokensOption = Annotated[
    int | None, typer.Option("--tokens", help="Most tokens a method may read.  [default: 60000]", show_default=False)
]
SecondsOption = Annotated[
    float | None,
    typer.Option("--seconds", help="Wall clock a method may use.  [default: 600]", show_default=False),
]


def seed_numbers(given: str) -> list[int]:
    """Seeds of a comma list, each once; raises as `whole_numbers`."""
    return whole_numbers(given, "--seed", "0,1")


def listed(text: str | None) -> list[str]:
    """The names of a comma list; a comma inside brackets, as in `supervised[gate=true, per_token=true]`, is part of a name."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text or "") if name.strip()]


def whole_numbers(given: str, option: str, example: str, least: int = 0) -> list[int]:
    """Numbers of an option's comma list, each once.

    Raises:
        UsageError: no whole number, or one below `least`.
    """
    from ..organisms.errors import UsageError

    parts = [part.strip() for part in given.split(",") if part.strip()]
    fit = (part.isdecimal() and part.isascii() and len(part) <= MOST_DIGITS and int(part) >= least for part in parts)
    if not parts or not all(fit):
        bound = f" from {least}" if least else ""
        raise UsageError(f"{option} {given!r} is not a comma list of whole numbers{bound}, e.g. {option} {example}")
    return list(dict.fromkeys(map(int, parts)))


MOST_DIGITS = 20
"""Of a number in a list: those of 64 bits have no more."""
