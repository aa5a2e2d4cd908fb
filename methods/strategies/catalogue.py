"""The built-in strategies as a list shows them, so that listing imports none and no torch; a test holds each row to its class."""

from typing import Literal

from ..catalogue import Facts
from ..registry import METHODS, Kind

POSER = "arXiv 2405.05466"
BUILTIN: dict[str, Facts] = {
    "log_prob": Facts(
        "strategies.log_prob:LogProb",
        "activations",
        POSER,
        "one pass",
        False,
        "The model that is a little less sure of the permitted option.",
    ),
    "steering": Facts(
        "strategies.steering:Steering",
        "activations",
        POSER,
        "six passes",
        False,
        "The model that a vector away from being watched moves further to the forbidden option.",
    ),
    "uniform_noise": Facts(
        "strategies.uniform_noise:UniformNoise",
        "activations",
        POSER,
        "two passes",
        True,
        "One vector of uniform noise, whose mean is not zero, added as in the paper's code.",
    ),
    "noise": Facts(
        "strategies.noise:Noise",
        "activations",
        "",
        "16 passes",
        True,
        "Centred Gaussian noise, several draws that both models share: which model says the forbidden option more often?",
    ),
    "tuning_speed": Facts(
        "strategies.tuning_speed:TuningSpeed",
        "+gradients",
        POSER,
        "8 steps of training a model",
        False,
        "The model that learns faster to take the forbidden option.",
    ),
    "concepts": Facts(
        "strategies.concepts:Concepts",
        "activations",
        POSER,
        "four passes",
        False,
        "The model whose residuals say more clearly whether somebody watches.",
    ),
    "decision_speed": Facts(
        "strategies.decision_speed:DecisionSpeed",
        "activations",
        POSER,
        "one pass a block",
        False,
        "The model whose answer a linear probe reads only at a later block.",
    ),
    "attentiveness": Facts(
        "strategies.attentiveness:Attentiveness",
        "activations",
        POSER,
        "two passes a block",
        False,
        "The model whose residuals change more when the fact about oversight is left out.",
    ),
    "mean_difference": Facts(
        "strategies.mean_difference:MeanDifference",
        "activations",
        "",
        "four passes",
        False,
        "The difference of the two models' mean residuals, added both ways: which model does it bring to the forbidden option?",
    ),
    "findings": Facts(
        "strategies.findings:Findings",
        "activations",
        "",
        "reads all tokens, fits a dictionary",
        True,
        "Directions that a method of ours finds between the two, added both ways to each: which model do they turn?",
    ),
    "random": Facts(
        "strategies.anchors:Random",
        "activations",
        "",
        "none",
        True,
        "A coin that knows it is one: chance.",
    ),
    "ceiling": Facts(
        "strategies.anchors:Ceiling",
        "anchor",
        "",
        "one pass",
        False,
        "Looks at the scenes of poor oversight: what nobody else may see.",
    ),
}
"""In the order they are listed."""
STRATEGIES = Kind(
    "strategy",
    "diffbench.strategies",
    "suspect",
    "docs/lineup.md",
    BUILTIN,
    ("activations", "+gradients", "+ancestor", "supervised"),
)
KINDS: dict[Literal["methods", "strategies"], Kind] = {"methods": METHODS, "strategies": STRATEGIES}
"""Everything that runs in a process of its own."""
