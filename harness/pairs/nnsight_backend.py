"""A second opinion: the same passes run by nnsight, a library that knows nothing of this one, here or on NDIF.

Only the four passes are replaced (residuals, resume, logits, generation); which block is hooked and which adapter is on is decided as
ever, so what differs is who stops, edits and resumes the model. On NDIF a model is named by its hub id, and its weights stay there; the
same models are loaded here too, which is what makes the proof at load a proof that NDIF runs these very models.
"""

import contextlib
import copy
import re
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...organisms.errors import PrerequisiteError, UsageError
from ...organisms.hub.sources import PairSource
from .anatomy import PairError
from .engine import TOLERANCE, Body, Engine
from .pair import Pair
from .proof import LAST, probe
from .sides import SIDES, Adapters, Residents, Side, plain
from .trees import Layout

Tree = Any
"""A model as nnsight sees it: a module at every path."""
LOOPBACK = ("http://127.0.0.1", "http://localhost")
HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "num_beams": 1,
}
"""Fields of decoding that a model's own `generation_config` may set and that NDIF's copy of it must not decide."""
OURS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "max_new_tokens"),
    *("do_sample", "temperature", "top_k", "top_p", "transformers_version", "cache_implementation", "use_cache"),
}
"""Fields that `decoding` sets, or that change no token."""


@dataclass(frozen=True)
class Names:
    """The two sides as NDIF knows them."""

    base: str
    revision: str | None = None
    adapter: str | None = None
    tuned: str | None = None
    tuned_revision: str | None = None


def names(given: dict[str, str]) -> Names:
    """What NDIF is asked for, from what the user wrote as base, adapter, on and tuned.

    Raises:
        UsageError: something that a name on NDIF cannot say.
    """
    if given.get("on"):
        raise UsageError(
            "--remote: NDIF applies one adapter to a model, so a stack (--on) cannot run there; leave out --remote"
        )
    found = {part: HUB_ID.fullmatch(given[part]) for part in ("base", "adapter", "tuned") if given.get(part)}
    for part in ("base", *found):
        if found.get(part) is None or given[part].startswith("."):
            raise UsageError(
                f"--remote: NDIF runs models that it fetches from the hub by org/name, and the {part} is "
                f"{given.get(part, 'an embedded organism')}; weights are never sent. Give hub ids, or leave out --remote"
            )
    adapter = found.get("adapter")
    if adapter is not None and adapter["revision"]:
        raise UsageError(
            f"--remote: a request to NDIF names an adapter by org/name alone, so {given['adapter']} cannot be asked for at a "
            "revision; leave out the revision or --remote"
        )
    base, tuned = found["base"], found.get("tuned")
    assert base is not None
    return Names(
        base["repo"],
        base["revision"],
        adapter["repo"] if adapter else None,
        tuned["repo"] if tuned else None,
        tuned["revision"] if tuned else None,
    )


class NnsightEngine(Engine):
    """The passes of `Engine`, traced by nnsight. Threads take turns: a trace belongs to the whole model.

    Args:
        far: NDIF's model of each side; None to run the models that are here.
    """

    def __init__(
        self,
        models: dict[Side, Any],
        layer: int,
        between: Adapters | Residents | None,
        far: dict[Side, Tree] | None = None,
    ):
        super().__init__(models, layer, between)
        self._turn, self._far = threading.RLock(), far
        here = {} if far else {id(m): library().NNsight(plain(m)) for m in models.values()}
        self._trees: dict[Side, Tree] = far or {side: here[id(models[side])] for side in SIDES}
        self._how: dict[str, Any] = {"remote": True} if far else {}

    def twin(self) -> "NnsightEngine":
        """Itself."""
        return self

    @contextlib.contextmanager
    def side(self, side: Side) -> Generator[Body, None, None]:
        """See `Engine.side`; one thread at a time."""
        with self._turn, super().side(side) as body, reaching() if self._far else contextlib.nullcontext():
            yield body

    def _blocks(self, tree: Tree, body: Body, upto: int | None = None) -> list[Tree]:
        """The first blocks (up to the hooked layer); nnsight's name of a module is its path in the model."""
        paths = {id(module): path for path, module in plain(body.model).named_modules()}
        return [tree.get(paths[id(block)]) for block in body.parts.blocks[: upto or self.layer + 1]]

    def residuals(self, ids: Tensor, side: Side, layout: Layout | None = None) -> Tensor:
        """See `Pair.residuals`."""
        with self.side(side) as body:
            tree, save = self._trees[side], library().save
            block = self._blocks(tree, body)[-1]
            with tree.trace(input_ids=ids, use_cache=False, **self._how) as tracer:
                found = save(block.output)
                tracer.stop()
        return (found if isinstance(found, Tensor) else found[0]).to(ids.device).float()

    def ends(self, residual: Tensor, ids: Tensor, side: Side, where: Tensor, layout: Layout | None = None) -> Tensor:
        """See `Pair.ends`."""
        row, at = where.unbind(1)
        with self.side(side) as body, contextlib.nullcontext() if self._far else body.reading(where):
            tree, save = self._trees[side], library().save
            *below, last = self._blocks(tree, body, len(body.parts.blocks))
            if len(below) == self.layer:
                return residual[row, at]
            skipped = below[: self.layer + 1]
            with tree.trace(input_ids=ids, use_cache=False, **self._how) as tracer:
                handed = residual.to(skipped[0].input)
                for block in skipped:
                    block.skip(body.parts.as_output(handed))
                found = save(last.output)
                tracer.stop()
        return (found if isinstance(found, Tensor) else found[0]).to(ids.device)[row, at]

    def unembed(self, ends: Tensor, side: Side) -> Tensor:
        """See `Pair.unembed`."""
        ids = torch.zeros(len(ends), 1, dtype=torch.int64, device=ends.device)
        with self.side(side) as body:
            tree, save = self._trees[side], library().save
            blocks = self._blocks(tree, body, len(body.parts.blocks))
            with tree.trace(input_ids=ids, use_cache=False, **self._how):
                handed = ends[:, None].to(blocks[0].input)
                for block in blocks:
                    block.skip(body.parts.as_output(handed))
                logits = save(tree.output.logits)
        return logits[:, 0].to(ids.device).float()

    def logits(self, ids: Tensor, side: Side, keep: Tensor | int) -> Tensor:
        """See `Pair.logits`."""
        with self.side(side):
            tree, save = self._trees[side], library().save
            with tree.trace(input_ids=ids, use_cache=False, logits_to_keep=keep, **self._how):
                logits = save(tree.output.logits)
        return logits.to(ids.device).float()

    def generate(self, ids: Tensor, mask: Tensor, side: Side, how: Any) -> Tensor:
        """See `Engine.generate`; on NDIF a sample is seeded from the seed here."""
        with self.side(side):
            tree, save = self._trees[side], library().save
            start: Callable[..., Any] = tree.trace
            asked: dict[str, Any] = {"fn": "generate"}
            seed = 0
            if self._far:
                start, asked, how = tree.generate, self._how, copy.deepcopy(how)
                how.update(**NEUTRAL)
                seed = int(torch.randint(1, 2**31, ()))
            with start(input_ids=ids, attention_mask=mask, generation_config=how, **asked) as tracer:
                if seed:
                    torch.manual_seed(seed)
                rows = save(tracer.result)
        return rows.to(ids.device)


class NnsightPair(Pair):
    """A pair whose passes nnsight runs. Arguments as of `Pair`, and `far` as of `NnsightEngine`."""

    def __init__(self, *args: Any, far: dict[Side, Tree] | None = None, **kwargs: Any):
        self._far = far
        super().__init__(*args, **kwargs)
        if far is not None:
            self.dtype = torch.bfloat16  # what a deployment has is not told; it is the coarsest in use

    def _start(self, models: dict[Side, Any], between: Adapters | Residents | None) -> Engine:
        return NnsightEngine(models, self.layer, between, self._far)

    @cached_property
    def worth(self) -> float | None:
        """None: rows stay rows, which is what a second opinion is for."""

    def at(self, layer: int) -> "NnsightPair":
        """See `Pair.at`."""
        return NnsightPair(self.model, self.tokenizer, layer, self._tuned, self._between, far=self._far)


def far_trees(asked: Names, source: PairSource, model: Any, tokenizer: Any) -> dict[Side, Tree]:
    """NDIF's model of each side: the structure of the files that are here, without weights, under the names of the hub.

    Raises:
        PrerequisiteError: the hub cannot be reached, or a model's own way of decoding cannot be undone from here.
    """
    own = plain(model).generation_config.to_dict()
    sets = {name for name, value in own.items() if not name.startswith("_") and value not in (None, False, [])}
    if odd := sorted(sets - OURS - set(NEUTRAL)):
        raise PrerequisiteError(
            f"the generation_config of {asked.base} sets {', '.join(odd)}, and NDIF would obey it; leave out --remote"
        )

    def tree(folder: Any, repo: str, revision: str | None, adapter: str | None) -> Tree:
        made: Any = library().TransformersModel(
            str(folder),
            task="text-generation",
            tokenizer=copy.deepcopy(tokenizer),
            peft=str(source.adapter) if adapter else None,
        )
        made.repo_id, made.revision, made.peft = repo, revision, adapter
        try:
            made.to_model_key()
        except Exception as error:  # the hub client has a dozen unrelated error types; all mean the same to the user
            raise PrerequisiteError(
                f"--remote: {repo} could not be looked up on the hub ({type(error).__name__}); is the id right, the network up? "
                "Without --remote the model runs here"
            ) from error
        return made

    tuned = (
        tree(source.tuned, asked.tuned, asked.tuned_revision, None)
        if asked.tuned
        else tree(source.base, asked.base, asked.revision, asked.adapter)
    )
    return {"base": tree(source.base, asked.base, asked.revision, None), "tuned": tuned}


def check_same(far: Pair, here: Pair) -> None:
    """Raise PairError if NDIF's models are not those whose files were read here."""
    ids = probe(plain(here.model))
    for side in SIDES:
        ours, theirs = here.logits(ids, side, LAST), far.logits(ids, side, LAST)
        if (off := float((ours - theirs).abs().max() / ours.abs().max())) > TOLERANCE[far.dtype]:
            raise PairError(
                f"--remote: NDIF's {side} model is not the one that was loaded here: logits differ by {off:.2g} of the largest (at most "
                f"{TOLERANCE[far.dtype]:g} is rounding). Is the revision the one that NDIF has deployed?"
            )


def check_key() -> None:
    """Raise if there is no key for NDIF (a server on this machine asks for none)."""
    api = library().CONFIG.API
    if not api.APIKEY and not api.HOST.startswith(LOOPBACK):
        raise PrerequisiteError(
            f"--remote: NDIF ({api.HOST}) wants a key and none is set; set NDIF_API_KEY or run `nnsight login`, "
            "or leave out --remote"
        )


@contextlib.contextmanager
def reaching() -> Generator[None, None, None]:
    """What goes wrong on the way to NDIF or there, as an error that says so."""
    import httpx
    import websocket

    host = library().CONFIG.API.HOST
    from nnsight.intervention.backends.remote import RemoteError

    try:
        yield
    except (RemoteError, httpx.HTTPError, websocket.WebSocketException, OSError) as error:
        raise PrerequisiteError(
            f"--remote: NDIF ({host}) did not run the model: {error}. Is the network up, the key right, and the "
            "model deployed (nnsight.status() lists them)? Without --remote the model runs here"
        ) from error


def library() -> Any:
    """nnsight, quiet (its status lines would mix with ours) and without the `.save` that it gives to every Python object."""
    import nnsight

    app: Any = nnsight.CONFIG.APP
    if app.PYMOUNT:
        from nnsight._c import unmount

        if unmount is not None:
            unmount("save")
        app.PYMOUNT = app.REMOTE_LOGGING = app.DEBUG = False
    return nnsight
