"""The page as Gradio blocks: controls, what follows from them, and a link that keeps pace. Everything it shows comes from `face`."""

import importlib
from collections.abc import Sequence
from typing import Any

from ...organisms.errors import DiffbenchError
from . import face
from .resident import Resident
from .settings import LONGEST, MOST_STRENGTH, MOST_TOKENS, Settings, checked, of_query

gr: Any = importlib.import_module("gradio")
LINK = "(query) => { history.replaceState(null, '', query || location.pathname); return location.href }"
"""Puts the settings into the address, and shows the whole of it."""
SHOWN = "() => { if (innerWidth < 700) document.querySelector('#answers').scrollIntoView() }"
"""On a narrow screen the answers stand below the controls."""
START = 0.5
"""Where the slider stands as long as scoring chooses."""
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def blocks(resident: Resident) -> Any:
    """The page around some runs."""
    keys, first = resident.labels, next(iter(resident.labels))
    runs = [(label, key) for key, label in keys.items()]
    several = len(runs) > 1
    with gr.Blocks(title="diffbench", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(face.TITLE)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                run = gr.Dropdown(runs, value=first, label="Run", elem_id="run")
                finding = _findings(resident, first, "Findings, used together", "finding")
                prompt = gr.Textbox(label="Prompt", lines=2, max_lines=8, max_length=LONGEST, elem_id="prompt")
                example = gr.Dropdown([], value=None, label="Or one of the organism's (dev)", elem_id="example")
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                side = gr.Radio(
                    [("both", "both"), ("add to the base", "base"), ("take out of the organism", "organism")],
                    value="both",
                    label="Side",
                    elem_id="side",
                )
                chosen = gr.Checkbox(True, label="Strength as scoring chose", elem_id="chosen")
                strength = gr.Slider(
                    0, MOST_STRENGTH, START, step=0.05, label="Strength, × mean residual norm", elem_id="strength"
                )
                gated = gr.Checkbox(False, label="Only where gates are open", elem_id="gated")
                beside = gr.Dropdown(
                    [("none", ""), *runs], value="", label="Compare with", elem_id="beside", visible=several
                )
                beside_finding = _findings(resident, first, "Its findings", "beside_finding", visible=False)
                with gr.Accordion("More", open=False):
                    raw = gr.Checkbox(False, label="Plain text to be continued, not a turn in chat", elem_id="raw")
                    tokens = gr.Slider(1, MOST_TOKENS, 24, step=1, label="Longest answer, tokens", elem_id="tokens")
                    seed = gr.Textbox("", label="Seed of the sampling (empty: greedy)", max_lines=1, elem_id="seed")
                link = gr.Textbox(
                    label="Link to these settings", interactive=False, buttons=["copy"], max_lines=1, elem_id="link"
                )
            with gr.Column(scale=5, min_width=320), gr.Tabs():
                with gr.Tab("Answers"):
                    answers = gr.HTML(elem_id="answers")
                with gr.Tab("What the findings are", elem_id="what") as tab:
                    about = gr.HTML(elem_id="about")
        controls = [run, finding, beside, beside_finding, prompt]
        controls += [side, chosen, strength, gated, raw, tokens, seed]

        def asked(*values: Any) -> tuple[str, str]:
            try:
                settings = _settings(values)
            except DiffbenchError as error:
                return face.refused(error), ""
            return face.answered(resident.trials(settings)), settings.query

        def told(*values: Any) -> str:
            try:
                s = _settings(values)
                shown = [(s.run, s.finding), *([(s.beside, s.beside_finding)] if s.beside else [])]
                return face.findings([(resident.report(key), numbers or (1,)) for key, numbers in shown])
            except DiffbenchError as error:
                return face.refused(error)

        def opened(request: Any) -> list[Any]:
            """A page as its link has it; of a link that says what cannot be, the page as it is and why."""
            why, key = "", first
            try:
                s = of_query(dict(request.query_params))
                for asked_for in filter(None, (s.run, s.beside)):
                    resident.many(asked_for)
            except DiffbenchError as error:
                s, why = Settings(), face.refused(f"This link cannot be opened: {error}")
            key = s.run or first
            try:
                known = resident.prompts(key)
            except DiffbenchError as error:
                known, why = [], face.refused(error)
            return [
                key,
                _choices(resident, key, s.finding),
                s.beside,
                _choices(resident, s.beside or first, s.beside_finding, bool(s.beside)),
                s.prompt or (known[0] if known else ""),
                s.side,
                s.strength is None,
                START if s.strength is None else s.strength,
                s.gated,
                s.raw,
                s.tokens,
                "" if s.seed is None else str(s.seed),
                gr.Dropdown(known, value=None),
                why,
            ]

        opened.__annotations__["request"] = gr.Request  # by which Gradio knows what to hand over

        def other(key: str) -> tuple[Any, Any]:
            return _choices(resident, key, ()), gr.Dropdown(resident.prompts(key), value=None)

        def second(key: str) -> Any:
            return _choices(resident, key or first, (), bool(key))

        again: dict[str, Any] = {"fn": asked, "inputs": controls, "outputs": [answers, link], **PRIVATE}
        written: dict[str, Any] = {"fn": None, "inputs": link, "outputs": link, "js": LINK}
        start = page.load(opened, None, [*controls, example, answers], **PRIVATE)
        start.success(_unless_refused(asked), [answers, *controls], [answers, link], **PRIVATE).then(**written)
        for event in (ask.click, prompt.submit):
            event(**again).then(**written).then(fn=None, js=SHOWN)
        strength.input(lambda: False, None, chosen, **PRIVATE)
        strength.release(**again).then(**written)
        run.input(other, run, [finding, example], **PRIVATE)
        beside.input(second, beside, beside_finding, **PRIVATE)
        example.input(str, example, prompt, **PRIVATE).then(**again).then(**written)
        tab.select(told, controls, about, **PRIVATE)
        for control in (run, finding, beside, beside_finding):
            control.input(lambda: "", None, about, **PRIVATE)
    return page


def _findings(resident: Resident, key: str, label: str, elem_id: str, visible: bool = True) -> Any:
    return gr.Dropdown(
        list(range(1, resident.many(key) + 1)),
        value=[],
        multiselect=True,
        label=f"{label} (none: as scoring chose)",
        elem_id=elem_id,
        visible=visible,
    )


def _choices(resident: Resident, key: str, numbers: Sequence[int], visible: bool = True) -> Any:
    """Numbers of a run's findings, and those of a link, which may not be there: asking says so."""
    known = range(1, resident.many(key) + 1)
    return gr.Dropdown(sorted({*known, *numbers}), value=list(numbers), visible=visible)


def _settings(values: Sequence[Any]) -> Settings:
    """Of the controls in their order."""
    run, finding, beside, beside_finding, prompt, side, chosen, strength, gated, raw, tokens, seed = values
    return checked(
        {
            "run": run,
            "finding": tuple(sorted(finding or ())),
            "beside": beside or "",
            "beside_finding": tuple(sorted(beside_finding or ())) if beside else (),
            "prompt": prompt or "",
            "strength": None if chosen else strength,
            "side": side,
            "gated": gated,
            "raw": raw,
            "tokens": tokens,
            "seed": (seed or "").strip() or None,
        }
    )


def _unless_refused(asked: Any) -> Any:
    """The first answer of a page, unless its link was refused: that stays to be read."""

    def first(refusal: str, *values: Any) -> tuple[str, str]:
        return (refusal, "") if refusal else asked(*values)

    return first
