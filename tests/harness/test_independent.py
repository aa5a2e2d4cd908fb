"""A cell scored once more from docs/protocol.md, with a hook on whole models and nothing of the harness: the page is enough, and right."""

import functools
import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffbench import api
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

BUDGETS, KS, STRENGTHS, AIM, CONTROLS, TOKENS = (0.01, 0.03, 0.1, 0.3, 1.0), (1, 3, 10), (0.15, 0.5, 1.6), 0.8, 16, {"dev": 128, "test": 1000}  # fmt: skip
OTHER = {"base": "tuned", "tuned": "base"}
OPS = {"base": ("add",), "tuned": ("subtract", "ablate")}
Kind = tuple[str, str, int, bool]
"""Name of the directions, operation, k, gated."""


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


class Independent:
    """One organism, and named sets of directions with their gates."""

    def __init__(self, organism: Organism, findings: Path):
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(organism.base)
        base = AutoModelForCausalLM.from_pretrained(organism.base, dtype=torch.float32)
        self.model: Any = PeftModel.from_pretrained(base, organism.adapter).eval()
        self.block = base.model.layers[organism.layer]
        texts = organism.make_texts(self.tokenizer)
        self.text: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        for split, tokens in TOKENS.items():
            rows: list[list[int]] = []
            for kind in ("neutral", "chat"):
                some: list[list[int]] = []
                for row in texts.rows(kind, split):  # type: ignore[arg-type]
                    some.append(row)
                    if sum(map(len, some)) >= tokens:
                        break
                rows += some
            self.text[split] = self.padded(rows)
            self.asked[split] = self.ask(organism.behaviour.of(split))
        file = load_file(findings)
        d = self.d = file["direction"].shape[1]
        none = torch.zeros(CONTROLS, d), torch.full((CONTROLS,), -float("inf"))
        self.sets = {"findings": (unit(file["direction"]), file["read"], file["threshold"])}
        self.n = len(file["direction"])
        for i in range(CONTROLS):
            seed = int.from_bytes(hashlib.sha256(f"random control 0 {i}".encode()).digest()[:7], "big")
            drawn = unit(torch.randn(16, d, generator=torch.Generator().manual_seed(seed)))
            self.sets[f"draw {i}"] = (drawn, *none)
            self.sets[f"gated {i}"] = (drawn[: self.n], file["read"], file["threshold"])
        clean = {(side, split): self.residuals(side, split) for side in OTHER for split in ("dev",)}
        self.scale = {side: float(clean[side, "dev"].norm(dim=1).mean()) for side in OTHER}
        self.centre = clean["base", "dev"].mean(0)
        self.clean = {(side, split): self.run(side, self.text[split][0]) for side in OTHER for split in TOKENS}
        self.b = {(side, split): self.rates(side, split) for side in OTHER for split in TOKENS}
        self.gap = {split: (self.b["base", split] - self.b["tuned", split]).abs() for split in TOKENS}

    def padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        n = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (n - len(row))] for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (n - len(row)) for row in rows]).bool()[:, 1:]

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
        return self.padded([list(r) for r in rows])[0], torch.tensor(index).T, names, len(prompts)

    def run(self, side: str, ids: torch.Tensor, edit: Any = None, keep: Any = None) -> torch.Tensor:
        """Log-probabilities [rows, pos, vocab] of the whole model."""

        def hook(module: Any, args: Any, output: Any) -> Any:
            h = output if isinstance(output, torch.Tensor) else output[0]
            if keep is not None:
                keep.append(h)
            h = h if edit is None else edit(h)
            return h if isinstance(output, torch.Tensor) else (h, *output[1:])

        handle = self.block.register_forward_hook(hook)
        with torch.no_grad(), nullcontext() if side == "tuned" else self.model.disable_adapter():
            out = self.model(ids).logits.log_softmax(-1)
        handle.remove()
        return out

    def residuals(self, side: str, split: str) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        ids, scored = self.text[split]
        self.run(side, ids, keep=kept)
        return kept[0][:, 1:-1][scored[:, 1:]]

    def rates(self, side: str, split: str, edit: Any = None) -> torch.Tensor:
        ids, (row, at, token, which), names, n = self.asked[split]
        log_p = self.run(side, ids, edit)[row, at, token]
        mass = torch.zeros(len(names)).index_add(0, which, log_p).exp()
        prompt, wanted = torch.tensor([p for p, _ in names]), torch.tensor([w for _, w in names])
        sums = [torch.zeros(n).index_add(0, prompt, m) for m in (mass * wanted, mass)]
        return sums[0] / sums[1]

    def edit(self, side: str, kind: Kind, strength: float) -> Any:
        (d, read, threshold), op, k, gated = self.sets[kind[0]], *kind[1:]
        basis: list[torch.Tensor] = []
        for rest in d[:k].double():
            for q in [*basis, *basis]:
                rest = rest - (rest @ q) * q
            if rest.norm() > 1e-4:
                basis.append(unit(rest))
        q = torch.stack(basis).float()

        def edited(h: torch.Tensor) -> torch.Tensor:
            active = (h @ read[:k].T > threshold[:k]).float() if gated else torch.ones(*h.shape[:2], k)
            if op == "ablate":
                return h - active.amax(-1, keepdim=True) * (((h - self.centre) @ q.T).clamp_min(0) @ q)
            total = active @ d[:k]
            push = torch.where(total.norm(dim=-1, keepdim=True) > 1e-4, unit(total), 0.0)
            return h + {"add": 1, "subtract": -1}[op] * strength * self.scale[side] * push

        return edited

    def kl(self, side: str, split: str, kind: Kind, strength: float) -> torch.Tensor:
        """Collateral [rows, pos]; 0 where nothing is predicted."""
        ids, scored = self.text[split]
        after, clean = self.run(side, ids, self.edit(side, kind, strength)), self.clean
        both = [(p.exp() * (p - after)).sum(-1)[:, :-1].clamp_min(0) for p in (clean[side, split], clean[OTHER[side], split])]  # fmt: skip
        return torch.minimum(*both) * scored

    @functools.cache  # noqa: B019
    def points(self, side: str, kind: Kind) -> list[tuple[float, float, Kind, float]]:
        """(gain, collateral, kind, strength) of a kind on dev, one for each budget."""
        ladder = (1.0,) if kind[1] == "ablate" else STRENGTHS
        cost = [float(self.kl(side, "dev", kind, s).sum() / self.text["dev"][1].sum()) for s in ladder]
        found: dict[float, float] = {}
        for tau in BUDGETS if len(ladder) > 1 else ():
            t, c = AIM * tau, [max(1e-12, x) for x in cost]
            s = ladder[-1]
            if c[0] >= t:
                s = ladder[0] * (t / c[0]) ** 0.5
            elif up := [i for i in range(2) if c[i] < t <= c[i + 1]]:
                i = up[0]
                s = ladder[i] * (ladder[i + 1] / ladder[i]) ** (np.log(t / c[i]) / np.log(c[i + 1] / c[i]))
            found.setdefault(float(f"{s:.4g}"), min(t, max(cost)))
        if len(ladder) == 1 and cost[0] <= AIM * BUDGETS[-1]:
            found[1.0] = cost[0]
        on, gap = self.gap["dev"] >= 0.1, self.gap["dev"]
        return [(float((self.effect(side, "dev", kind, s)[on]).sum() / gap[on].sum()), kl, kind, s) for s, kl in found.items()]  # fmt: skip

    @functools.cache  # noqa: B019
    def effect(self, side: str, split: str, kind: Kind, strength: float) -> torch.Tensor:
        return self.gap[split] - (self.rates(side, split, self.edit(side, kind, strength)) - self.b[OTHER[side], split]).abs()  # fmt: skip

    @functools.cache  # noqa: B019
    def upper(self, side: str, kind: Kind, strength: float) -> float:
        sums = self.kl(side, "test", kind, strength).sum(1).double().numpy()
        n = len(sums)
        drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 1000)
        return float(np.quantile(drawn @ sums / (drawn @ self.text["test"][1].sum(1).numpy()), 0.975))

    def taken(self, side: str, kinds: list[Kind], again: bool) -> torch.Tensor:
        """Mean effect [prompts] over budgets of what a set of kinds is allowed."""
        points = [p for kind in kinds for p in self.points(side, kind)]
        first = [max([p for p in points if p[0] > 0 and p[1] <= AIM * t], key=lambda p: p[0], default=None) for t in BUDGETS]  # fmt: skip
        distinct = list(dict.fromkeys(p for p in first if p))
        if again:
            first = [max([p for p in distinct if self.upper(side, *p[2:]) <= t], key=lambda p: p[0], default=None) for t in BUDGETS]  # fmt: skip
        zero = torch.zeros_like(self.gap["test"])
        return torch.stack([zero if p is None else self.effect(side, "test", *p[2:]) for p in first]).mean(0)

    def score(self, side: str, gated: bool) -> float:
        """S or N."""
        ks = sorted({min(k, self.n) for k in KS})
        own = [("findings", op, k, gated) for k in ks for op in OPS[side] if not gated or self.sets["findings"][2][:k].isfinite().any()]  # fmt: skip
        controls: list[list[Kind]] = [[(f"gated {i}", *kind[1:]) for kind in own] for i in range(CONTROLS)] if gated else [
            [(f"draw {(i + r) % CONTROLS}", op, k if op == "ablate" else 1, False) for r, k in enumerate(ks) for op in OPS[side]]
            for i in range(CONTROLS)
        ]  # fmt: skip
        other: list[torch.Tensor] = []
        self.run(OTHER[side], self.asked["test"][0], keep=other)
        gap, on = self.gap["test"], self.gap["test"] >= 0.1
        oracle = gap - (self.rates(side, "test", lambda h: other[0]) - self.b[OTHER[side], "test"]).abs()
        null = torch.stack([self.taken(side, c, False) for c in controls]).mean(0)
        raw, zero, one = (float(e[on].sum() / gap[on].sum()) for e in (self.taken(side, own, True), null, oracle))
        return (raw - max(0, zero)) / (one - max(0, zero))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "gated"), [("mean_diff", False), ("logit_diff", True)])
def test_a_cell_scored_from_the_page_alone(method: str, gated: bool, tmp_path: Path) -> None:
    api.run(method, "taboo/gold-narrow", out=tmp_path)
    [folder] = {path.parent for path in tmp_path.rglob("result.json")}
    scores = json.loads((folder / "result.json").read_text())["scores"]
    again = Independent(load_organism("taboo/gold-narrow"), folder / "findings.safetensors")
    for suffix, gates in [("_constant", False), ("", True)][: 1 + gated]:
        s, n = again.score("base", gates), again.score("tuned", gates)
        both = 2 * s * n / (s + n) if min(s, n) > 0 else 0.0
        for name, value in (("sufficiency", s), ("necessity", n), ("isolation", both)):
            assert value == pytest.approx(scores[name + suffix]["unclipped"], abs=1e-4), (name, suffix)
