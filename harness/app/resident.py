"""Runs that are looked at together, their models kept loaded: settings in, the terminal's trials and reports out.

Each pair is loaded when it is first asked, and once for all runs on it and its prompts. One question is answered at a time.
"""

import threading
from collections import Counter
from collections.abc import Sequence

from ...organisms.errors import DiffbenchError, unknown
from ..cache import Cache
from ..inspection.answers import Workshop, asked_on_dev
from ..inspection.collect import report
from ..inspection.report import Report
from ..inspection.subject import Subject
from ..inspection.trial import Trial, trial
from ..records.reading import prompts_sha256
from ..runs.stage import Stage
from .settings import Settings


class Resident:
    """Some subjects and their models.

    Args:
        subjects: with findings, at least one.
        device: where the models run.
        cache: keeps reports; None: they are kept as long as this is.
    """

    def __init__(self, subjects: Sequence[Subject], device: str = "cpu", cache: Cache | None = None):
        self._device, self._cache, self._lock = device, cache, threading.Lock()
        self._stages = dict[tuple[object, ...], Stage]()
        self._work = dict[str, Workshop]()
        self._reports = dict[str, Report]()
        self.subjects = dict[str, Subject]()
        """By key: what a link calls a run."""
        for s in subjects:
            s.chosen([1])
            self.subjects.setdefault(_key(s), s)

    @property
    def labels(self) -> dict[str, str]:
        """Key → what a run is called; its key as well where two are called alike."""
        names = {key: _label(s) for key, s in self.subjects.items()}
        often = Counter(names.values())
        return {key: name if often[name] == 1 else f"{name}, {key}" for key, name in names.items()}

    def many(self, key: str) -> int:
        """How many findings a run has."""
        return len(self._of(key).findings.findings)

    def trials(self, s: Settings) -> list[Trial | DiffbenchError]:
        """The prompt tried with the first run's findings and, if there is a second, with its: each a trial, or why there is none."""
        asked = [(s.run, s.finding), *([(s.beside, s.beside_finding)] if s.beside else [])]
        with self._lock:
            return [self._tried(key, found, s) for key, found in asked]

    def report(self, key: str) -> Report:
        """All that is known of a run's findings; raises as `report`."""
        with self._lock:
            if key not in self._reports:
                self._reports[key] = report(self._of(key), self._device, self._cache, work=self._at(key))
            return self._reports[key]

    def prompts(self, key: str) -> list[str]:
        """Some of the organism's dev prompts, to begin with (of test, none are shown); if it has none, of ordinary conversations."""
        with self._lock:
            work = self._at(key)
            dev = [p for p in work.stage.organism.behaviour.of("dev") if len(p.messages) == 1]
            if not work.stage.organism.behaviour.prompts:
                return [text for text, _ in work.openings()]
            return [text for text, _ in asked_on_dev(dev, work.stage.pair.tokenizer)]

    def _tried(self, key: str, found: Sequence[int], s: Settings) -> Trial | DiffbenchError:
        try:
            subject, work = self._of(key), self._at(key)
            return trial(
                subject, s.prompt, found or None, s.strength, s.side, s.gated, s.raw, s.tokens, s.seed, work=work
            )
        except DiffbenchError as error:
            return error

    def _of(self, key: str) -> Subject:
        if key not in self.subjects:
            raise unknown("run", key, list(self.subjects))
        return self.subjects[key]

    def _at(self, key: str) -> Workshop:
        """A subject's pair, loaded."""
        if key not in self._work:
            s = self._of(key)
            o = s.organism
            pair = (o.name, o.sha256, prompts_sha256(o), o.layer, s.drops)  # a run on few prompts shows those
            if pair not in self._stages:
                self._stages[pair] = Stage.load(s.organism, self._device, drops=s.drops, cache=self._cache)
            self._work[key] = Workshop(self._stages[pair], s)
        return self._work[key]


def _key(s: Subject) -> str:
    return s.result.id[:12] if s.result else f"{s.name}-{(s.sha256 or '')[:8]}"


def _label(s: Subject) -> str:
    seed = f", seed {s.result.identity.seeds['method']}" if s.result else ""
    return f"{s.name} on {s.organism.name}{seed}"
