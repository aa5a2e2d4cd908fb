"""A cell scored once more from docs/protocol.md alone, with a hook on whole models and nothing of the harness."""

import functools
import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffbench.organisms.organism import Organism
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

BUDGETS, KS, STRENGTHS, AIM = (0.01, 0.03, 0.1, 0.3, 1.0), (1, 3, 10), (0.15, 0.5, 1.6), 0.8
TOKENS = {"dev": 256, "test": 2000}
SIDES = {"base": ("tuned", ("add",)), "tuned": ("base", ("subtract", "ablate"))}  # the other side, what is done on this
Kind = tuple[str, str, int, bool]  # name of the directions, operation, k, gated


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, torch.arange(1, ids.shape[1]) < torch.tensor([[len(row)] for row in rows])


class Independent:
    def __init__(self, organism: Organism, findings: Path, controls: int):
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(organism.base)
        base = AutoModelForCausalLM.from_pretrained(organism.base, dtype=torch.float32)
        self.model: Any = PeftModel.from_pretrained(base, organism.adapter).eval()
        self.block, texts = base.model.layers[organism.layer], organism.make_texts(self.tokenizer)
        self.text = dict[str, tuple[torch.Tensor, torch.Tensor]]()
        for split, tokens in TOKENS.items():
            rows, stream = list[list[int]](), texts.rows("chat", split)  # type: ignore[arg-type]
            while sum(map(len, rows)) < tokens:
                rows.append(next(stream))
            self.text[split] = padded(rows)
        self.asked = {split: self.ask(organism.behaviour.of(split)) for split in TOKENS}
        file = {name: t.float() for name, t in load_file(findings).items()}
        direction, *gates = file["direction"], file["read"], file["threshold"]
        self.sets, self.n = {"findings": (unit(direction), *gates)}, len(direction)
        for i in range(controls):
            seed = int.from_bytes(hashlib.sha256(f"random control 0 {i}".encode()).digest()[:7], "big")
            drawn = unit(torch.randn(16, direction.shape[1], generator=torch.Generator().manual_seed(seed)))
            self.sets[str(i)] = (drawn[: self.n], *gates)
        ids, real = self.text["dev"]
        ordinary = {side: self.residual(side, ids)[:, 1:-1][real[:, 1:]] for side in SIDES}
        self.scale = {side: float(h.norm(dim=1).mean()) for side, h in ordinary.items()}
        self.centre = ordinary["base"].mean(0)
        self.clean = {(side, split): self.run(side, self.text[split][0]) for side in SIDES for split in TOKENS}
        self.by_choices = organism.behaviour.distance == "choices"
        self.b = {(side, split): self.said(side, split) for side in SIDES for split in TOKENS}
        self.gap = {split: self.distance(split, *(self.b[side, split] for side in SIDES)) for split in TOKENS}

    def ask(self, prompts: Any) -> Any:
        rows, index, names = dict[tuple[int, ...], int](), list[tuple[int, int, int, int]](), list[tuple[int, bool]]()
        for p, prompt in enumerate(prompts):
            turns = [{"role": t.role, "content": t.content} for t in prompt.messages]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            text += f" {prompt.prefill}" if prompt.prefill else ""
            start = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            for said in (*prompt.targets, *prompt.alternatives):
                after = self.tokenizer(f"{text} {said}", add_special_tokens=False)["input_ids"][len(start) :]
                row = rows.setdefault((*start, *after[:-1]), len(rows))
                index += [(row, len(start) - 1 + i, token, len(names)) for i, token in enumerate(after)]
                names.append((p, said in prompt.targets))
        return padded([list(r) for r in rows])[0], torch.tensor(index).T, torch.tensor(names).T, len(prompts)

    def residual(self, side: str, ids: torch.Tensor) -> torch.Tensor:
        seen = list[torch.Tensor]()
        self.run(side, ids, lambda h: seen.append(h) or h)
        return seen[0]

    def run(self, side: str, ids: torch.Tensor, edit: Any = lambda h: h) -> torch.Tensor:
        """Log-probabilities [rows, pos, vocab] of the whole model."""

        def hook(module: Any, args: Any, output: Any) -> Any:
            return edit(output) if isinstance(output, torch.Tensor) else (edit(output[0]), *output[1:])

        handle = self.block.register_forward_hook(hook)
        with torch.no_grad(), nullcontext() if side == "tuned" else self.model.disable_adapter():
            out = self.model(ids).logits.log_softmax(-1)
        handle.remove()
        return out

    def said(self, side: str, split: str, edit: Any = lambda h: h) -> torch.Tensor:
        """Rates [prompts], or shares [continuations]."""
        ids, (row, at, token, which), (prompt, wanted), n = self.asked[split]
        mass = torch.zeros(len(prompt)).index_add(0, which, self.run(side, ids, edit)[row, at, token]).exp()
        share = mass / torch.zeros(n).index_add(0, prompt, mass)[prompt]
        return share if self.by_choices else torch.zeros(n).index_add(0, prompt, share * wanted)

    def distance(self, split: str, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """[prompts]."""
        apart, (_, _, (prompt, _), n) = (one - other).abs(), self.asked[split]
        return torch.zeros(n).index_add(0, prompt, apart) / 2 if self.by_choices else apart

    def edit(self, side: str, kind: Kind, strength: float) -> Any:
        (d, read, threshold), op, k, gated = self.sets[kind[0]], *kind[1:]
        basis: list[torch.Tensor] = []
        for rest in d[:k].double():
            for q in [*basis, *basis]:
                rest = rest - (rest @ q) * q
            basis += [unit(rest)] if rest.norm() > 1e-4 else []
        q = torch.stack(basis).float()

        def edited(h: torch.Tensor) -> torch.Tensor:
            active = (h @ read[:k].T > threshold[:k]).float() if gated else torch.ones(*h.shape[:2], k)
            if op == "ablate":
                return h - active.amax(-1, keepdim=True) * (((h - self.centre) @ q.T).clamp_min(0) @ q)
            total = active @ d[:k]
            push = torch.where(total.norm(dim=-1, keepdim=True) > 1e-4, unit(total), 0.0)
            return h + {"add": 1, "subtract": -1}[op] * strength * self.scale[side] * push

        return edited

    def kl(self, split: str, side: str, kind: Kind, strength: float) -> torch.Tensor:
        """Collateral [rows, pos]; 0 where nothing is predicted."""
        ids, real = self.text[split]
        after = self.run(side, ids, self.edit(side, kind, strength))
        clean = (self.clean["base", split], self.clean["tuned", split])
        return torch.minimum(*((p.exp() * (p - after)).sum(-1)[:, :-1].clamp_min(0) for p in clean)) * real

    @functools.cache  # noqa: B019
    def points(self, side: str, kind: Kind) -> list[tuple[float, float, str, Kind, float]]:
        """(gain, collateral, side, kind, strength) of the options of a kind on dev."""
        ladder, found = ((1.0,) if kind[1] == "ablate" else STRENGTHS), dict[float, float]()
        cost = [max(1e-12, float(self.kl("dev", side, kind, s).sum() / self.text["dev"][1].sum())) for s in ladder]
        for target in [AIM * tau for tau in BUDGETS] if len(ladder) > 1 else ():
            s, up = ladder[-1], [i for i in range(2) if cost[i] < target <= cost[i + 1]]
            if cost[0] >= target:
                s = ladder[0] * (target / cost[0]) ** 0.5
            elif up:
                share = np.log(target / cost[up[0]]) / np.log(cost[up[0] + 1] / cost[up[0]])
                s = ladder[up[0]] * (ladder[up[0] + 1] / ladder[up[0]]) ** share
            found.setdefault(float(f"{s:.7g}"), min(target, max(cost)))
        if len(ladder) > 1:
            half, least = next(iter(found.items()))
            while (half := float(f"{half / 2:.7g}")) >= ladder[0]:
                found.setdefault(half, least)
        elif cost[0] <= AIM * BUDGETS[-1]:
            found[1.0] = cost[0]
        return [(self.share("dev", self.effect("dev", side, kind, s)), kl, side, kind, s) for s, kl in found.items()]

    @functools.cache  # noqa: B019
    def effect(self, split: str, side: str, kind: Kind, strength: float) -> torch.Tensor:
        after = self.said(side, split, self.edit(side, kind, strength))
        return self.gap[split] - self.distance(split, after, self.b[SIDES[side][0], split])

    def share(self, split: str, effect: torch.Tensor) -> float:
        on = self.gap[split] >= 0.1
        return float(effect[on].sum() / self.gap[split][on].sum())

    @functools.cache  # noqa: B019
    def upper(self, *option: Any) -> float:
        sums, tokens = self.kl("test", *option).sum(1).double().numpy(), self.text["test"][1].sum(1).numpy()
        n = len(sums) if option[1][0] == "findings" else int(((tokens + 1).cumsum() < 512).sum()) + 1
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 1000)
        mean, high = sums[:n].sum() / tokens[:n].sum(), np.quantile(drawn @ sums[:n] / (drawn @ tokens[:n]), 0.975)
        return float(mean + (high - mean) * (tokens[:n].sum() / tokens.sum()) ** 0.5)

    def taken(self, side: str, kinds: list[Kind]) -> torch.Tensor:
        """Mean effect [prompts] over budgets of what a set of kinds is allowed."""
        points = [p for kind in kinds for p in self.points(side, kind) if p[0] > 0]
        best = [max([p for p in points if p[1] <= AIM * tau], key=lambda p: p[0], default=None) for tau in BUDGETS]
        keeps = [[p for p in dict.fromkeys(best) if p and self.upper(*p[2:]) <= tau] for tau in BUDGETS]
        counts = [max(some, key=lambda p: p[0]) if some else None for some in keeps]
        return torch.stack([self.effect("test", *p[2:]) if p else 0 * self.gap["test"] for p in counts]).mean(0)

    def score(self, side: str, gated: bool) -> float:
        ks = [k for k in sorted({min(k, self.n) for k in KS}) if not gated or self.sets["0"][2][:k].isfinite().any()]
        sets = list(self.sets)[:17] if gated else self.sets  # the findings, and 16 controls
        r = {name: self.taken(side, [(name, op, k, gated) for k in ks for op in SIDES[side][1]]) for name in sets}
        other = self.residual(SIDES[side][0], self.asked["test"][0])
        away = self.distance("test", self.said(side, "test", lambda h: other), self.b[SIDES[side][0], "test"])
        raw, oracle = (self.share("test", e) for e in (r.pop("findings"), self.gap["test"] - away))
        zero = max(0.0, self.share("test", torch.stack(list(r.values())).mean(0)))
        return (raw - zero) / max(oracle - zero, 0.2)
