"""Names the rows: one row is one method in one configuration.

Runs of a method with other options, another version or another budget are other methods to the reader; averaging them
would hide which one scored what. A method seen in one form keeps its plain name; several forms get what differs between
them, as in `delta[k=32]`. Where our default departs from the paper's setting, runs at the paper's are NAME@published whatever
else is in the table, so that a claim can be tested as it was made. Findings that were made elsewhere are one method by their
name: each pair has a file of its own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...methods.catalogue import AS_PUBLISHED, PUBLISHED
from ...methods.registry import GIVEN, is_given
from ..records.identity import Identity


class Identified(Protocol):
    """A record, or what a table keeps of one."""

    @property
    def id(self) -> str:
        """Hash of the identity."""
        ...

    @property
    def identity(self) -> Identity:
        """What the record is of."""
        ...


Form = Mapping[str, str]
"""Option → value as compact JSON."""


def as_published(method: str) -> str:
    """The row of a method as its paper ran it: the plain one, where our default is the paper's."""
    return f"{method}{AS_PUBLISHED}" if method in PUBLISHED else method


def row_labels(results: Sequence[Identified]) -> dict[str, str]:
    """Row label by result id."""
    forms: dict[str, list[Form]] = {}
    of: dict[str, tuple[str, Form]] = {}
    for result in results:
        name = result.identity.row
        known, form = forms.setdefault(name, []), _form(result.identity)
        if form not in known:
            known.append(form)
        of[result.id] = name, form
    return {id_: _label(name, form, forms[name]) for id_, (name, form) in of.items()}


def bare(label: str) -> str:
    """The method of a row."""
    return label.partition("[")[0].partition("@")[0]


def _form(identity: Identity) -> Form:
    budget = {f"budget.{k}": v for k, v in identity.budget.items()}
    version = GIVEN.strip() if is_given(identity.method_version) else identity.method_version
    options = {"version": version, "access": identity.access} | budget | identity.config
    return {k: json.dumps(v, sort_keys=True, separators=(",", ":")).strip('"') for k, v in options.items()}


def _label(name: str, own: Form, forms: Sequence[Form]) -> str:
    """The name and, where it has several forms, every option in which any two of them differ."""
    differing = sorted(k for k in {k for form in forms for k in form} if len({form.get(k) for form in forms}) > 1)
    return f"{name}[{', '.join(f'{k}={own.get(k)}' for k in differing)}]" if differing else name
