"""The batched engine gives what one whole forward pass per prompt and option gives."""

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.engine import Side
from diffbench.harness.pairs.interventions import NOTHING, Directions, Option, coefficient, edits, movement
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.parallel import in_threads, threads
from diffbench.harness.protocol import clean_runs, edited_rows
from diffbench.harness.protocol.clean_runs import CleanRun
from diffbench.harness.protocol.prompts import choices, ordinary, passage, portions, rates
from diffbench.harness.runs.stage import Stage
from diffbench.methods.contract import Finding, Gate

OPTIONS = [NOTHING] + [Option("add", k, gated, s) for k in (1, 3) for gated in (False, True) for s in (0.3, 0.9)]


def some_directions(stage: Stage) -> Directions:
    """Three random directions whose gates fire on about a fifth of the tokens."""
    g = torch.Generator().manual_seed(1)
    h = torch.cat([p.h.flatten(0, 1) for p in stage.scorer._clean["base", "dev"].asked.rows.parts])
    pairs = torch.randn(3, 2, stage.pair.d_model, generator=g)
    return Directions.of([Finding(d, Gate(read, float((h @ read).quantile(0.8)))) for d, read in pairs])


def whole(stage: Stage, ids: torch.Tensor, edit: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Logits [rows, pos, vocab] of the whole base with its residual edited by a plain hook."""
    handle = stage.pair.block("base").register_forward_hook(
        lambda m, a, out: edit(out) if isinstance(out, torch.Tensor) else (edit(out[0]), *out[1:])
    )
    try:
        return stage.pair.logits(ids, "base")
    finally:
        handle.remove()


def test_every_edit_equals_a_hook_on_the_whole_model(stage: Stage) -> None:
    d, prompts = some_directions(stage), stage.organism.behaviour.of("dev")[:7]
    text = passage(stage.pair, stage.texts.rows("neutral", "dev"), 150)
    here = CleanRun(stage.pair, "base", prompts, stage.organism.behaviour.capability_of("dev"), text)
    got = edits(OPTIONS, d, here.scale)
    fast, kl = here.behaviour_rates(got), here.collateral(got)
    assert float((fast[1:] - fast[0]).abs().max()) > 1e-3 and float(kl[1:].min()) >= 0 and float(kl[0]) == 0
    c, clean = choices(stage.pair, prompts), stage.pair.logits(text.ids, "base").log_softmax(-1)
    for i, o in enumerate(OPTIONS):

        def edit(h: torch.Tensor, o: Option = o) -> torch.Tensor:
            return h + coefficient(o, here.scale) * movement(h, d, o.op, o.k, o.gated)

        slow = rates(whole(stage, c.ids, edit)[:, c.keep][None], c)[0]
        assert torch.allclose(fast[i], slow, atol=1e-5), o
        log_p = whole(stage, text.ids, edit).log_softmax(-1)
        each = (clean.exp() * (clean - log_p)).sum(-1)[:, :-1][text.scored]
        assert abs(float(kl[i] - each.mean())) < 1e-5, o


def facing(stage: Stage, tokens: int = 150) -> dict[Side, CleanRun]:
    """Both sides on a few prompts and some ordinary text."""
    prompts = stage.organism.behaviour.of("dev")[:3]
    return CleanRun.both(stage.pair, prompts, [], ordinary(stage.pair, stage.texts, prompts, "dev", tokens))


def test_collateral_is_the_smaller_of_the_distances_to_both_models(stage: Stage) -> None:
    """Token by token: what moves towards the other model costs no more than its distance from there."""
    run = facing(stage)["base"]
    got = edits(OPTIONS, some_directions(stage), run.scale)
    near = run.read.edited(got)
    own, other = torch.zeros(2, len(OPTIONS), run.read.rows.places)
    for read in run.read.rows.edited(got):
        own[read.edit, read.spot] = run.read.rows.kl(read)
        other[read.edit, read.spot] = run.other.read.rows.kl(read)
    assert bool((other < own).any()) and bool((own < other).any())
    both = torch.minimum(own, other)[:, run.read.rows.spot]
    moved = own[:, run.read.rows.spot] > 0
    torch.testing.assert_close(near[moved], both[moved], atol=1e-6, rtol=0)
    assert not near[0].any()  # doing nothing


def test_what_equals_the_other_model_costs_nothing(stage: Stage) -> None:
    """The adapter stops at the hooked layer, so its residual in the base is the organism; its distance from the base is not 0."""
    runs = facing(stage)
    for here, there in (("base", "tuned"), ("tuned", "base")):
        run = runs[here]
        reads = list(run.read.rows.handed(runs[there].read.rows.residuals))
        assert max(float(run.read._nearest(r).max()) for r in reads) < 1e-5
        assert max(float(run.read.rows.kl(r).max()) for r in reads) > 1e-2


def distances(said: list[list[float]], other: list[list[float]], by_choices: bool) -> list[float]:
    """Of two prompts of two and three continuations with these probabilities."""
    asked: Any = SimpleNamespace(n=2, prompt=torch.tensor([0, 0, 1, 1, 1]))
    flat = [portions(torch.tensor([[p for row in of for p in row]]).log(), asked)[0] for of in (said, other)]
    run: Any = SimpleNamespace(by_choices=by_choices, asked=SimpleNamespace(choices=asked))
    run.other = SimpleNamespace(said=flat[1][[0, 2]] if not by_choices else flat[1])
    return CleanRun._distance(run, (flat[0][[0, 2]] if not by_choices else flat[0])[None])[0].tolist()


def test_two_models_are_apart_by_their_rates_or_by_all_that_they_might_say() -> None:
    """Continuations that share a rate may still be exchanged; only shares of what is offered count, so halving all changes nothing."""
    one, two = [[0.3, 0.7], [0.2, 0.3, 0.5]], [[0.1, 0.3], [0.2, 0.5, 0.3]]
    assert distances(one, two, by_choices=False) == pytest.approx([0.05, 0.0])
    assert distances(one, two, by_choices=True) == pytest.approx([0.05, 0.2])
    assert distances(one, [[0.15, 0.35], [0.1, 0.15, 0.25]], by_choices=True) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_logits_are_made_a_few_at_a_time_however_many_are_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    d, prompts = some_directions(stage), stage.organism.behaviour.of("dev")
    text = passage(stage.pair, stage.texts.rows("neutral", "dev"), 150)

    def measured() -> list[torch.Tensor]:
        here = CleanRun(stage.pair, "base", prompts, [], text)
        got = edits(OPTIONS, d, here.scale)
        return [here.rates, here.behaviour_rates(got), here.collateral(got)]

    whole, most, made = measured(), 7, list[int]()
    real = Pair.unembed

    def counted(self: Pair, ends: torch.Tensor, side: Side) -> torch.Tensor:
        made.append(len(ends))
        return real(self, ends, side)

    monkeypatch.setattr(Pair, "unembed", counted)
    monkeypatch.setitem(stage.pair.__dict__, "at_once", most)
    monkeypatch.setattr(edited_rows, "CLEAN_BYTES", 0)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, measured(), strict=True))
    assert 0 < max(made) <= most


def test_threads_share_the_weights_and_nothing_else(stage: Stage) -> None:
    here = stage.scorer._clean["base", "dev"]
    there = stage.scorer._clean["tuned", "dev"]
    got = edits(OPTIONS, some_directions(stage), here.scale)
    work = [here, there] * 6
    with threads(1):
        alone = [a.behaviour_rates(got) for a in work]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda a: a.behaviour_rates(got), work))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_workers_keep_order_and_pass_errors_on() -> None:
    with threads(2):
        assert list(in_threads(lambda x: x * x, range(7), torch.device("cpu"))) == [x * x for x in range(7)]
        assert torch.get_num_threads() == 2
        try:
            list(in_threads(lambda x: 1 // x, [1, 0, 2], torch.device("cpu")))
        except ZeroDivisionError:
            return
    raise AssertionError("the error was lost")


def test_rows_of_similar_length_stand_together_with_the_least_padding() -> None:
    rng = random.Random(0)
    for _ in range(100):
        lengths = [rng.randint(1, 12) for _ in range(rng.randint(1, 9))]
        groups = edited_rows._similar(lengths)
        assert sorted(itertools.chain(*groups)) == list(range(len(lengths))) and len(groups) <= edited_rows.PARTS
        area = sum(len(g) * max(lengths[i] for i in g) for g in groups)
        ordered = sorted(lengths)
        least = min(
            sum((b - a) * ordered[b - 1] for a, b in itertools.pairwise((0, *cuts, len(ordered))))
            for n in range(edited_rows.PARTS)
            for cuts in itertools.combinations(range(1, len(ordered)), n)
        )
        assert area == least


def test_text_is_read_once_where_it_is_the_same(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another split's run, and where the text of controls is all of it."""
    read = list[int]()
    whole_init = clean_runs.TextResiduals.__init__

    def counted(self: Any, pair: Any, side: Any, text: Any, other: Any = None) -> None:
        read.append(len(text.ids))
        whole_init(self, pair, side, text, other)

    monkeypatch.setattr(clean_runs.TextResiduals, "__init__", counted)
    prompts = stage.organism.behaviour.of("dev")[:2]
    text = ordinary(stage.pair, stage.texts, prompts, "dev", 150)
    first = CleanRun.both(stage.pair, prompts, [], text, brief=text.first(10_000))
    assert read == [len(text.ids)] * 2 and first["base"].brief is first["base"].read
    again = CleanRun.both(stage.pair, prompts[:1], [], first)
    assert len(read) == 2 and again["tuned"].read is first["tuned"].read
    less = CleanRun.both(stage.pair, prompts, [], text, brief=text.first(20))
    assert len(read) == 6 and len(less["base"].brief.row) < len(less["base"].read.row)
    assert less["base"].brief.other is less["tuned"].brief


def test_capability_is_asked_for_only_where_there_are_probes(stage: Stage) -> None:
    here = facing(stage)["tuned"]
    made = edits(OPTIONS[:1], Directions.of([Finding(torch.ones(stage.pair.d_model))]), here.scale)
    with pytest.raises(AssertionError, match="no capability probes"):
        here.accuracy(made)
