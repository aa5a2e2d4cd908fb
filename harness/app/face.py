"""Trials, reports and refusals as parts of the app's page: every text escaped, nothing computed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from ...organisms.errors import DiffbenchError
from ..escape import plain
from ..inspection.faces.page import page
from ..inspection.faces.words import at_work, four, parted
from ..inspection.report import Report
from ..inspection.trial import Trial

FOLDER = Path(__file__).parent
TITLE = Markup(
    '<div class="bench"><h1>diffbench: findings, tried</h1><p class="quiet">Both models run on this machine; nothing leaves it.</p></div>'
)


def answered(tried: Sequence[Trial | DiffbenchError]) -> str:
    """One prompt under the findings of each run, or why there is no answer under them."""
    trials = [t for t in tried if isinstance(t, Trial)]
    if not trials:
        return refused("\n".join(dict.fromkeys(map(str, tried))))
    environment = Environment(autoescape=True, finalize=_shown, trim_blocks=True)
    environment.globals.update(at_work=at_work, four=four, parted=parted)  # pyright: ignore[reportCallIssue, reportArgumentType]
    notes = list(dict.fromkeys(note for t in trials for note in t.notes))
    columns = [(t, "") if isinstance(t, Trial) else (None, str(t)) for t in tried]
    template = environment.from_string((FOLDER / "face.html").read_text(encoding="utf-8"))
    return template.render(first=trials[0], columns=columns, notes=notes)


def findings(reports: Sequence[tuple[Report, Sequence[int]]]) -> str:
    """The page that `bench show --html` writes of each report, in a frame of its own that runs nothing."""
    frames = [
        Markup('<iframe sandbox="" title="{}" srcdoc="{}"></iframe>').format(
            f"{r.method} on {r.organism}", page(r, numbers)
        )
        for r, numbers in reports
    ]
    return Markup('<div class="bench"><div class="runs">{}</div></div>').format(Markup("").join(frames))


def refused(why: object) -> str:
    """What cannot be done, and why."""
    return Markup('<div class="bench"><div class="refused" role="alert">{}</div></div>').format(escape(plain(why)))


def _shown(value: Any) -> Any:
    """Text with its controls written out, before it is escaped."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
