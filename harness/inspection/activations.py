"""Where findings are active: one pass over text of several kinds, and what is seen of each finding in it.

The idea: an activation is one linear read-out of the residual, so a pass keeps a number a token and finding, never a residual. With a gate
it is `residual @ read − threshold`, which is above 0 where the gate is open; without, the projection on the unit direction, measured from
the base's mean residual as ablation measures it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...methods.coder.analysis import template_tokens
from ...methods.contract import Finding
from ...organisms.hub.shown import shown
from ..escape import plain
from ..pairs.engine import SIDES
from ..pairs.interventions import unit
from ..pairs.pair import Pair
from .report import Active, Context, Histogram, Kind, Place, Token, shade

ROWS = 64
"""Texts a pass."""
AROUND = 12
"""Tokens of a context before and after its strongest one."""
STRONGEST = 3
"""Contexts from the top."""
QUANTILES = (0.9, 0.75, 0.5)
"""Where the others stand among the texts, by their strongest activation."""
BINS = 24
LINES = {ord("\n"): "\\n", ord("\t"): "\\t"}
"""What begins a line or a column, as it is shown."""
SHARE = 0.01
"""Without a gate a token is active if it is among this share of the strongest, in both models together."""


@dataclass(frozen=True)
class ReadOut:
    """Activations of findings as read-outs [n, d_model] and offsets [n] of a residual."""

    read: Tensor
    offset: Tensor

    @classmethod
    def of(cls, findings: Sequence[Finding], centre: Tensor) -> "ReadOut":
        """Of each finding its gate, or its direction from `centre` [d_model]."""
        rows = [f.gate.read if f.gate else unit(f.direction) for f in findings]
        offsets = [f.gate.threshold if f.gate else float(unit(f.direction) @ centre.cpu()) for f in findings]
        return cls(torch.stack(rows).to(centre), torch.tensor(offsets).to(centre))

    def __call__(self, residual: Tensor) -> Tensor:
        """Activations [..., n] of residuals [..., d_model]."""
        return residual @ self.read.T - self.offset


@dataclass(frozen=True)
class Seen:
    """Activations of n findings on the tokens of some texts, one behind the other."""

    rows: list[list[int]]
    """Token ids of each text."""
    values: Tensor
    """[2, tokens, n] on the CPU: index 0 base, 1 organism; 0 at sinks."""
    counted: Tensor
    """[tokens] bool: no sink."""

    @cached_property
    def text(self) -> Tensor:
        """[tokens] the text that each token is of."""
        return torch.repeat_interleave(torch.arange(len(self.rows)), self._lengths)

    @cached_property
    def starts(self) -> Tensor:
        """[texts] where each begins."""
        return self._lengths.cumsum(0) - self._lengths

    @cached_property
    def _lengths(self) -> Tensor:
        return torch.tensor([len(row) for row in self.rows])

    @cached_property
    def ids(self) -> Tensor:
        """[tokens]."""
        return torch.tensor([i for row in self.rows for i in row])


@torch.inference_mode()
def seen(pair: Pair, rows: Sequence[list[int]], read_out: ReadOut) -> Seen:
    """Both sides read on some texts."""
    rows, values, counted = sorted(rows, key=len), list[Tensor](), list[Tensor]()
    for at in range(0, len(rows), ROWS):
        ids, mask = pair.pad(rows[at : at + ROWS])
        still = ~mask
        of_sides = list[Tensor]()
        for side in SIDES:
            h = pair.residuals(ids, side)
            if pair.sinks is not None:
                still = still | pair.sinks.still(h, ids, side)
            of_sides.append(read_out(h)[mask])
        values.append((torch.stack(of_sides) * ~still[mask][:, None]).cpu())
        counted.append(~still[mask].cpu())
    return Seen(rows, torch.cat(values, 1), torch.cat(counted))


def taken(rows: Iterable[list[int]], tokens: int) -> list[list[int]]:
    """Whole texts from the first on until they hold so many tokens; fewer if there are no more."""
    out, held = list[list[int]](), 0
    for row in rows:
        if held >= tokens:
            break
        out.append(row)
        held += len(row)
    return out


class Look:
    """What is seen of one finding in all text.

    Args:
        seen: by kind of text.
        finding: which one, from 0.
    """

    def __init__(self, seen: dict[Kind, Seen], finding: int, gated: bool, tokenizer: Any):
        self.seen, self.j, self.gated, self.tokenizer = seen, finding, gated, tokenizer
        everything = torch.cat([s.values[:, s.counted, finding] for s in seen.values()], 1)
        self.all = everything.double()
        """[2, tokens]."""
        n = self.all.numel()
        self.floor = 0.0 if gated else float(self.all.flatten().kthvalue(max(1, n - max(1, round(SHARE * n)))).values)
        """A token is active above it."""

    @property
    def silent(self) -> bool:
        """Whether a gate is open nowhere."""
        return self.gated and not bool((self.all > 0).any())

    def active(self) -> Active:
        """On how much text, and how far."""
        base, organism = (self.all > self.floor).double().mean(1).tolist()
        most = self.all.max(1).values.tolist()
        rule = "gate open" if self.gated else f"strongest {100 * SHARE:g} % of tokens, above {self.floor:.3g}"
        return Active(rule=rule, base=base, organism=organism, strongest_base=most[0], strongest_organism=most[1])

    def histogram(self) -> Histogram:
        """Of both models, in the same bins."""
        low, high = float(self.all.min()), float(self.all.max())
        high = high if high > low else low + 1.0
        counts = [torch.histc(x, BINS, low, high).int().tolist() for x in self.all]
        edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64).tolist()
        return Histogram(edges=edges, base=counts[0], organism=counts[1])

    def contexts(self) -> tuple[float, list[Context]]:
        """The largest activation in them, and for each kind of text the strongest ones and samples of quantiles, each text once."""
        windows = [w for kind in self.seen for w in self._windows(kind)]
        scale = max((float(w.values.max()) for w in windows), default=0.0)
        return scale, [self._context(w, scale) for w in windows]

    def places(self) -> list[Place]:
        """Each token that the chat template writes, and all others together."""
        if (s := self.seen.get("chat")) is None:
            return []
        ids, on = s.ids[s.counted], s.values[:, s.counted, self.j] > self.floor
        written = torch.tensor(sorted(template_tokens(self.tokenizer)))
        template = torch.isin(ids, written)
        groups = [(shown(self.tokenizer, int(t)), ids == t) for t in ids[template].unique()]
        groups.append(("all other tokens", ~template))
        return [
            Place(token=name, tokens=int(of.sum()), base=shares[0], organism=shares[1])
            for name, of in groups
            if bool(of.any())
            for shares in [on[:, of].double().mean(1).tolist()]
        ]

    def tokens(self, most: int, at_least: int = 3) -> tuple[list[str], list[str]]:
        """Tokens on which the organism's mean activation is highest and lowest, of those that are read often enough."""
        ids = torch.cat([s.ids[s.counted] for s in self.seen.values()])
        found, of, n = ids.unique(return_inverse=True, return_counts=True)
        mean = torch.zeros(len(found), dtype=torch.float64).index_add_(0, of, self.all[1]) / n
        found, mean = found[n >= at_least], mean[n >= at_least]
        order = mean.argsort(descending=True, stable=True)
        return tuple([shown(self.tokenizer, int(i)) for i in found[o[:most]]] for o in (order, order.flip(0)))  # pyright: ignore[reportReturnType]

    def _windows(self, kind: Kind) -> list["_Window"]:
        """Of the texts that are shown."""
        s = self.seen[kind]
        a = s.values[1, :, self.j].masked_fill(~s.counted, -torch.inf)
        best = torch.full((len(s.rows),), -torch.inf).scatter_reduce(0, s.text, a, "amax")
        order = [i for i in best.argsort(descending=True, stable=True).tolist() if best[i] > -torch.inf]
        out, known = list[_Window](), set[tuple[int, ...]]()

        def add(at: int, sample: bool) -> bool:
            start, length = int(s.starts[order[at]]), len(s.rows[order[at]])
            top = int(a[start : start + length].argmax())
            low, high = max(0, top - AROUND), min(length, top + AROUND + 1)
            ids = s.rows[order[at]][low:high]
            if tuple(ids) in known:
                return False
            known.add(tuple(ids))
            values, quantile = s.values[:, start + low : start + high, self.j], 1 - at / max(1, len(order) - 1)
            out.append(_Window(kind, at + 1, sample, quantile, ids, values, (low > 0, high < length)))
            return True

        for at in range(len(order)):
            if len(out) == STRONGEST:
                break
            add(at, False)
        for q in QUANTILES if len(order) > STRONGEST else ():
            any(add(at, True) for at in range(round((1 - q) * (len(order) - 1)), len(order)))
        return out

    def _context(self, w: "_Window", scale: float) -> Context:
        tokens = [
            Token(text=text, base=b, organism=o, shade_base=shade(b, scale), shade_organism=shade(o, scale))
            for text, b, o in zip(spelled(self.tokenizer, w.ids), *w.values.tolist(), strict=True)
        ]
        base, organism = w.values.max(1).values.tolist()
        where = {"kind": w.kind, "rank": w.rank, "sample": w.sample, "quantile": w.quantile, "cut": w.cut}
        return Context(**where, base=base, organism=organism, tokens=tokens)  # pyright: ignore[reportArgumentType]


class _Window(NamedTuple):
    """A part of a text."""

    kind: Kind
    rank: int
    sample: bool
    quantile: float
    ids: list[int]
    values: Tensor
    """[2, n]."""
    cut: tuple[bool, bool]


def spelled(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as what it adds to the text, controls written out; a token that is half a character as `shown` has it."""
    out, said = list[str](), ""
    for i, token in enumerate(ids):
        whole = str(tokenizer.decode(ids[: i + 1]))
        fits = whole.startswith(said) and "\ufffd" not in whole[len(said) :]
        out.append(plain(whole[len(said) :]).translate(LINES) if fits else shown(tokenizer, token))
        said = whole
    return out
