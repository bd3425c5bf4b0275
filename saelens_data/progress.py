"""How far long work has come: a live line for whoever is watching, in a terminal or in a notebook."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from shutil import get_terminal_size
from typing import Any, Literal

#: Told (how much is done, of how much).
Progress = Callable[[int, int], None]
#: Told (what is being done, how much is done, of how much, further words).
Stages = Callable[[str, int, int, str], None]
#: What long work takes: who is to be told; None shows a line to whoever is watching, False shows nothing.
Told = Progress | Literal[False] | None
ToldStages = Stages | Literal[False] | None
#: Shows lines in place of those that it showed before.
Show = Callable[[Sequence[str]], None]

#: Seconds between two drawings, and characters of a bar.
_EACH, _BAR = 0.2, 24


def stages(told: ToldStages = None) -> Stages:
    """What to tell of each stage: `told`, or what draws a live line for each where somebody is watching."""
    if told is not None:
        return told or _silent
    show = watcher()
    return _silent if show is None else Lines(show)


def one_stage(name: str, told: Told = None) -> Progress:
    """The same for work of one stage; its line is drawn at once, so that there is something to look at."""
    if told is not None:
        return told or _silent
    tell = stages()
    tell(name, 0, 1, "")
    return lambda done, total: tell(name, done, total, "")


def watcher() -> Show | None:
    """What shows lines below the cell of a notebook, or on stderr in a terminal; None where nobody is watching."""
    if in_notebook():
        return _Notebook()
    return _Terminal() if sys.stderr is not None and sys.stderr.isatty() else None


def in_notebook() -> bool:
    """Whether a kernel runs this, which shows what it is handed below the cell."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def import_bars() -> None:
    """Import the bars of others before they do, which in a notebook without ipywidgets warns of what is not drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("tqdm.auto")


class Lines:
    """A line for each stage, drawn a few times a second, and in any case when a stage begins and ends."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._lines: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._drawn = 0.0

    def __call__(self, stage: str, done: int, total: int, detail: str) -> None:
        """Tell how far a stage has come."""
        now = time.monotonic()
        first = stage not in self._begun
        begun = self._begun.setdefault(stage, now)
        self._lines[stage] = line(stage, done / max(total, 1), detail, now - begun)
        if first or done >= total or now - self._drawn >= _EACH:
            self._drawn = now
            self._show(list(self._lines.values()))


def line(stage: str, share: float, detail: str, seconds: float) -> str:
    """'encoding ━━━━━━╌╌╌╌╌╌  50% 0:12 left', with the time that it took at the end."""
    share = min(max(share, 0.0), 1.0)
    full = round(_BAR * share)
    clock = f"{_clock(seconds * (1 - share) / share)} left" if 0 < share < 1 else _clock(seconds)
    return f"{stage} {'━' * full}{'╌' * (_BAR - full)} {share:4.0%} {clock} {detail}".rstrip()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _silent(*_: Any) -> None:
    pass


class _Notebook:
    """One output below the cell, replaced each time; needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, lines: Sequence[str]) -> None:
        from IPython import display  # noqa: PLC0415

        content = {"text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = display.display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


class _Terminal:
    """The lines on stderr, in place of those before."""

    def __init__(self) -> None:
        self._n = 0

    def __call__(self, lines: Sequence[str]) -> None:
        wide = get_terminal_size().columns - 1
        up = f"\x1b[{self._n}F" if self._n else ""
        sys.stderr.write(up + "".join(f"\x1b[2K{text[:wide]}\n" for text in lines))
        sys.stderr.flush()
        self._n = len(lines)
