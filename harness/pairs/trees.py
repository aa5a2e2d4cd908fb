"""Rows that begin alike, written as one tree, so that what they share runs once.

A chat template, a question with several prefills and a prompt with several continuations all repeat their beginnings. In a tree each
position sees what stands before it in its row and nothing else, and knows its place by number; so it gets the numbers that it has in its
row alone (causality), and so do positions under an edit that depends on the residual alone. Which rows are put together is chosen by
cost: a tree saves what its rows share, and its attention grows with the square of its size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Row = Sequence[int]
MOST_NODES = 1024
"""Most positions of a tree."""


class Layout(NamedTuple):
    """What a model is told of rows that are trees."""

    depth: Tensor
    """[rows, pos] place of each position in the texts that it belongs to."""
    sees: Tensor
    """[rows, 1, pos, pos] 0 where a position sees another, else the lowest number of the model's dtype."""

    def of(self, rows: Tensor) -> "Layout":
        """The layout of some rows, in the given order."""
        if len(self.depth) == 1:
            return Layout(self.depth.expand(len(rows), -1), self.sees.expand(len(rows), -1, -1, -1))
        return Layout(self.depth[rows], self.sees[rows])


class Tree(NamedTuple):
    """Rows with what they share written once, depth first."""

    rows: list[int]
    """Which rows."""
    ids: list[int]
    """[nodes] token ids; node 0 begins every row."""
    parents: list[int]
    """[nodes] node before each; −1 before the first."""
    paths: list[list[int]]
    """Node at each position of each row."""

    @property
    def chain(self) -> bool:
        """Whether it is a plain row, whose every position sees all before it."""
        return all(parent == node - 1 for node, parent in enumerate(self.parents))


def grown(rows: Sequence[Row], which: Sequence[int]) -> Tree:
    """The tree of some rows, which begin with the same token."""
    ids: list[int] = []
    parents: list[int] = []
    children: dict[tuple[int, int], int] = {}
    paths: list[list[int]] = []
    for row in which:
        at, path = -1, list[int]()
        for token in rows[row]:
            if (at, token) not in children:
                children[at, token] = len(ids)
                ids.append(token)
                parents.append(at)
            at = children[at, token]
            path.append(at)
        paths.append(path)
    return Tree(list(which), ids, parents, paths)


def planted(rows: Sequence[Row], worth: float) -> list[Tree]:
    """The trees with the least cost in all, of rows side by side in lexical order (exact, by dynamic programming).

    Args:
        rows: token rows, none empty.
        worth: positions that a position may see for the price of what a block computes of it alone; a tree of n nodes costs n (worth + n).
    """
    order = sorted(range(len(rows)), key=lambda i: list(rows[i]))
    fresh = [0] * len(order)
    """Nodes that a row adds to a tree whose last row stands before it; all of them where nothing is shared."""
    for at in range(1, len(order)):
        before, row = rows[order[at - 1]], rows[order[at]]
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, row, strict=False)) if a != b), min(len(before), len(row))
        )
        fresh[at] = len(row) - shared if shared else MOST_NODES + 1
    best, cut = [0.0], [0]
    for end in range(1, len(order) + 1):
        nodes, least = len(rows[order[end - 1]]), (float("inf"), 0)
        total = nodes
        for start in range(end - 1, -1, -1):
            # total: nodes of the tree of order[start:end]
            total = (
                nodes
                if start == end - 1
                else total - len(rows[order[start + 1]]) + fresh[start + 1] + len(rows[order[start]])
            )
            if total > MOST_NODES and start < end - 1:
                break
            least = min(least, (best[start] + total * (worth + total), start))
        best.append(least[0])
        cut.append(least[1])
    trees: list[Tree] = []
    end = len(order)
    while end:
        trees.append(grown(rows, order[cut[end] : end]))
        end = cut[end]
    return trees[::-1]


def layout(trees: Sequence[Tree], pos: int, dtype: torch.dtype, device: torch.device) -> Layout | None:
    """The layout of trees [trees, pos], padded on the right; None if all are plain rows."""
    if all(tree.chain for tree in trees):
        return None
    sees = torch.eye(pos, dtype=torch.bool).repeat(len(trees), 1, 1)
    depth = torch.zeros(len(trees), pos, dtype=torch.int64)
    for t, tree in enumerate(trees):
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                sees[t, node] |= sees[t, parent]
                depth[t, node] = depth[t, parent] + 1
    hidden = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    return Layout(depth.to(device), hidden[:, None].to(device))
