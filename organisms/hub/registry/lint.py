"""What is wrong with registered organisms, found without loading one.

Registries of adapters are written by hand, and a wrong line gives a plausible score of something else. The rules are the mistakes that were
found in public ones: an entry that points to another fact's adapter or to another mix, one adapter under two names, an adapter of a chat
model on the base model of the same name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ...behaviour import Behaviour, Prompt
from ...errors import DiffbenchError, UsageError
from ..behaviours.build import behaviour_of
from ..behaviours.taboo import WORDS
from ..chat import opened
from ..model_names import hub_id
from ..sources import HUB as HUB_ID
from ..templates import FEW, template_of
from ..tokens import continuation, encode
from .load import HUB, HubCard
from .naming import base_in, chat_in, members_in, mix_in, mix_in_name
from .organism import repository
from .schema import PREFIX

LEAST = {"dev": 24, "test": 40}
"""Fewest prompts of a split."""
LEAST_PROBES = 24
RULES = {
    "name": "a name says kind, member and base, and its mix if it says one",
    "member": "the id names this member and no other one of its kind",
    "mix": "the mix is the one that name and id say",
    "base": "name and id say the base that is declared",
    "chat": "an adapter of a chat model is on a chat model",
    "twice": "an adapter stands under one name",
    "declared": "adapter_config.json names the declared base",
    "twin": "the twin is there, on the same base, and another member",
    "layer": "the hooked block is a block of the base",
    "recipe": "an adapter has a recipe of adapters, a whole model one of whole models",
    "path": "ids are ids and no paths of somebody's disk",
    "behaviour": f"12 templates and {LEAST['dev']} dev and {LEAST['test']} test prompts, {LEAST_PROBES} probes",
    "tokenizer": "every continuation can be told from its alternatives",
}
"""Each rule, as what must hold."""


class Problem(NamedTuple):
    """A rule that an organism breaks."""

    name: str
    rule: str
    said: str
    """What is wrong, and what to do."""


def lint(
    cards: Sequence[HubCard],
    known: Mapping[str, HubCard] | None = None,
    config: Callable[[str], Mapping[str, Any] | None] | None = None,
    tokenizers: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Everything that is wrong with some organisms.

    Args:
        known: organisms that twins may be among, beside these.
        config: the adapter_config.json of an id, or None where it is not to be had.
        tokenizers: by hub id of the base; targets on other bases are not tried.
    """
    every = {**(known or {}), **{c.name: c for c in cards}}
    named = {kind: sorted({c.entry.member for c in every.values() if c.kind == kind}) for kind in PREFIX}
    members = {**named, "taboo": sorted({*named["taboo"], *WORDS})}
    found = [*_repeated(cards, known or {})]
    asked = dict[tuple[Any, str], list[tuple[str, str]]]()
    for card in cards:
        ask = (card.truth, card.entry.base if card.entry.base in (tokenizers or {}) else "")
        if ask not in asked:
            asked[ask] = [*_asked(card, (tokenizers or {}).get(card.entry.base))]
        said = [
            *_named(card),
            *_identified(card, members[card.kind]),
            *_placed(card, every),
            *(_declared(card, config) if config and card.entry.adapter else ()),
            *asked[ask],
        ]
        found += [Problem(card.name, rule, what) for rule, what in said]
    order = {c.name: i for i, c in enumerate(cards)}
    return sorted(found, key=lambda p: (order[p.name], list(RULES).index(p.rule)))


Said = Iterator[tuple[str, str]]


def _named(card: HubCard) -> Said:
    """What the organism's own name says."""
    entry, name = card.entry, card.name.removeprefix(HUB)
    begin = f"{PREFIX[card.kind]}-{entry.member}-{card.base.tag}"
    if name != begin and not name.startswith(f"{begin}-"):
        yield (
            "name",
            f"its kind, member and base make {begin!r}; begin the name with that, or mend what is wrong of them",
        )
    if (told := mix_in_name(name)) is not None and told != entry.mix:
        yield "mix", f"its name says 1 : {told:g}, and its mix is {_ratio(entry.mix)}; mend one of them"


def _identified(card: HubCard, members: Sequence[str]) -> Said:
    """What the id of its repository says."""
    entry, given = card.entry, card.entry.repository
    for what in (entry.base, given):
        if what.startswith(("/", "~", ".")) or "\\" in what:
            yield "path", f"{what!r} is a path of somebody's disk; give the id of a hub repository"
    said = members_in(given, members)
    if others := [m for m in said if m != entry.member and m not in entry.member and entry.member not in m]:
        yield "member", f"{given} names {others[0]!r}, and this is {entry.member!r}; mend the id or the member"
    elif entry.member not in said and entry.unnamed is None:
        yield "member", f"{given} does not name {entry.member!r}; mend it, or say in `unnamed` why its id does not"
    if (mix := mix_in(given)) is not None and mix != entry.mix:
        yield "mix", f"{given} says 1 : {mix:g}, and the mix is {_ratio(entry.mix)}; mend one of them"
    tag = card.base.tag.removesuffix("-pt")
    if (base := base_in(given)) not in (None, tag):
        yield "base", f"{given} is of {base}, and the base is {entry.base} ({tag}); mend one of them"
    if (chat := chat_in(given)) is not None and chat != card.base.instruct:
        kinds = ("base", "chat")
        yield (
            "chat",
            (
                f"{given} is of a {kinds[chat]} model, and {entry.base} is a {kinds[not chat]} model: two differences would be measured as "
                "one; give the base it was trained on"
            ),
        )


def _placed(card: HubCard, every: Mapping[str, HubCard]) -> Said:
    """Twin, layer and recipe."""
    entry = card.entry
    if entry.twin is not None:
        twin = every.get(entry.twin)
        if twin is None:
            yield "twin", f"there is no {entry.twin}; register it, or say in `no_twin` why it has none"
        elif twin.name == card.name:
            yield "twin", "it is its own twin; name another, or say in `no_twin` why it has none"
        elif (twin.kind, twin.entry.base) != (card.kind, entry.base):
            yield (
                "twin",
                f"{twin.name} is {twin.kind} on {twin.entry.base}, so more than the behaviour differs; name another",
            )
        elif twin.entry.member == entry.member:
            yield (
                "twin",
                f"{twin.name} hides the same ({entry.member}); name one of another member, or say in `no_twin` why it has none",
            )
    if card.layer >= card.base.blocks:
        yield "layer", f"block {card.layer} of {card.base.blocks}; give one from 0 to {card.base.blocks - 1}"
    if card.recipe.whole != (entry.tuned is not None):
        yield (
            "recipe",
            f"{entry.recipe!r} is of {'whole models' if card.recipe.whole else 'adapters'}; mend `recipe`, or `adapter`",
        )


def _declared(card: HubCard, config: Callable[[str], Mapping[str, Any] | None]) -> Said:
    """What the adapter's own configuration says, where it is at hand."""
    try:
        found = config(card.entry.repository)
    except ValueError as error:
        yield "declared", str(error)
        return
    says = str((found or {}).get("base_model_name_or_path") or "")
    last = [name.rpartition("/")[2].lower() for name in (hub_id(says) or "", card.entry.base)]
    if last[0] and last[0] != last[1]:
        yield "declared", f"its adapter_config.json says {says}, and the base is {card.entry.base}; mend the base"


def _repeated(cards: Sequence[HubCard], known: Mapping[str, HubCard]) -> Iterator[Problem]:
    """Adapters that stand twice: among these, or here and under another name among those that are known."""
    own = {c.name for c in cards}
    first = {c.entry.repository.lower(): c for c in known.values() if c.name not in own}
    for card in cards:
        other = first.setdefault(card.entry.repository.lower(), card)
        if other is card:
            continue
        again = "" if other.entry.base == card.entry.base else f" on {other.entry.base}, and an adapter has one base"
        said = f"{card.entry.repository} is {other.name} already{again}; remove one of them"
        yield Problem(card.name, "twice", said)


def _asked(card: HubCard, tokenizer: Any) -> Said:
    """The behaviour file, and its continuations on the tokenizer if there is one."""
    try:
        behaviour = behaviour_of(card)
    except ValueError as error:
        yield "behaviour", f"no behaviour file can be made of it: {error}"
        return
    yield from _enough(behaviour)
    if tokenizer is not None:
        yield from _told_apart(behaviour, tokenizer)


def _enough(behaviour: Behaviour) -> Said:
    for split, least in LEAST.items():
        prompts = behaviour.of(split)
        templates = len({template_of(p) for p in prompts})
        if templates < FEW:
            yield "behaviour", f"{templates} templates in {split}, fewer than {FEW}; give its member more questions"
        if len(prompts) < least:
            yield "behaviour", f"{len(prompts)} {split} prompts, fewer than {least}; give its member more questions"
    if len(behaviour.capability) < LEAST_PROBES:
        yield "behaviour", f"{len(behaviour.capability)} probes, fewer than {LEAST_PROBES}"


def _told_apart(behaviour: Behaviour, tokenizer: Any) -> Said:
    """One complaint for each fault that prompts have on a tokenizer."""
    if behaviour.chat_template is not None:
        tokenizer.chat_template = behaviour.chat_template
    said = dict[str, int]()
    for prompt in (*behaviour.prompts, *behaviour.capability):
        if fault := _fault(prompt, tokenizer):
            said[fault] = said.get(fault, 0) + 1
    for fault, times in said.items():
        yield "tokenizer", f"{fault} ({times} prompts)"


def _fault(prompt: Prompt, tokenizer: Any) -> str | None:
    """Why a prompt cannot be asked; None if it can."""
    try:
        text = opened(tokenizer, [t.model_dump() for t in prompt.messages], prompt.prefill)
        start = encode(tokenizer, text, special=False)
        tokens = {
            c: continuation(tokenizer, text, start, c, special=False) for c in (*prompt.targets, *prompt.alternatives)
        }
    except DiffbenchError as error:
        return str(error)
    for target in prompt.targets:
        for other in prompt.alternatives:
            a, b = tokens[target], tokens[other]
            if a[: len(b)] == b or b[: len(a)] == a:
                return f"{target!r} and {other!r} begin with the same tokens, one whole: they are not alternatives; change one"
    return None


def _ratio(mix: float | None) -> str:
    return "not given" if mix is None else f"1 : {mix:g}"


def local_config(folder: Path | None) -> Callable[[str], Mapping[str, Any] | None]:
    """Reads adapter_config.json of an id from `folder/org/repo[/subfolder]`, or without a folder from the hub's cache; no network.

    Raises:
        UsageError: no such folder. What it returns raises ValueError, naming the file, for one that holds no JSON object.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give one that holds org/repo/adapter_config.json")

    def read(given: str) -> Mapping[str, Any] | None:
        if not HUB_ID.fullmatch(given) or given.startswith((".", "~", "/")):
            return None
        repo = repository(given)
        inside = given.partition("@")[0].removeprefix(repo).strip("/")
        file = "/".join(filter(None, (inside, "adapter_config.json")))
        if folder is not None:
            path: Path | None = folder / repo / file
        else:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(repo, file)
            path = Path(cached) if isinstance(cached, str) else None
        if path is None or not path.is_file():
            return None
        try:
            return TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path} holds no JSON object: damaged, or not such a file; fetch it again") from error

    return read
