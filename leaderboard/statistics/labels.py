"""Names the rows: one row is one method in one configuration.

Runs of a method with other options, another version or another budget are other methods to the reader; averaging them
would hide which one scored what. A method seen in one form keeps its plain name; several forms get what differs between
them, as in `delta[k=32]`. Findings that were made elsewhere are one method by their name: each pair has a file of its own.
"""

import json
from collections.abc import Mapping, Sequence

from ...harness.records.result import Result
from ...methods.registry import GIVEN, is_given

Form = Mapping[str, str]
"""Option → value as compact JSON."""


def row_labels(results: Sequence[Result]) -> dict[str, str]:
    """Row label by result id."""
    forms: dict[str, list[Form]] = {}
    for result in results:
        known, form = forms.setdefault(result.identity.method, []), _form(result)
        if form not in known:
            known.append(form)
    return {r.id: _label(r.identity.method, _form(r), forms[r.identity.method]) for r in results}


def _form(result: Result) -> Form:
    identity = result.identity
    budget = {f"budget.{k}": v for k, v in identity.budget.items()}
    version = GIVEN.strip() if is_given(identity.method_version) else identity.method_version
    options = {"version": version, "access": identity.access} | budget | identity.config
    return {k: json.dumps(v, sort_keys=True, separators=(",", ":")).strip('"') for k, v in options.items()}


def _label(method: str, own: Form, forms: Sequence[Form]) -> str:
    """The method's name and, where it has several forms, every option in which any two of them differ."""
    differing = sorted(k for k in {k for form in forms for k in form} if len({form.get(k) for form in forms}) > 1)
    return f"{method}[{', '.join(f'{k}={own.get(k)}' for k in differing)}]" if differing else method
