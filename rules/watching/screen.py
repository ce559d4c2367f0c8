"""Draws a run on a terminal: the bar of the whole, and a line for each running job."""

import os
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from watching import wording
from watching.run_state import Job, RunState

REDRAWN_PER_SECOND = 2
MOST_JOBS = 12  # lines of running jobs; more are counted
NARROW = 70  # columns; on fewer there are no bars, so that what a job does can still be read


class Screen:
    """Shows a run live.

    Args:
        state: what is known of the run.
        stream: the terminal.
    """

    def __init__(self, state: RunState, stream: TextIO) -> None:
        self._state = state
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None

    @staticmethod
    def suits(stream: TextIO) -> bool:
        """Return whether a stream is a terminal that lines can be redrawn on."""
        return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")

    def start(self) -> None:
        """Begin to draw."""
        if not self._live:
            self._live = Live(
                console=self._console,
                get_renderable=self.draw,
                refresh_per_second=REDRAWN_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def stop(self) -> None:
        """End drawing, and leave nothing of it."""
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Write lines above what is drawn, which stay; they are not broken, so that commands can be copied."""
        style = "bold red" if text.startswith(("FAILED", "Not finished")) else ""
        first, _, rest = text.partition("\n")
        self._console.print(Text(first, style=style), soft_wrap=True)
        if rest:
            self._console.print(Text(rest), soft_wrap=True)

    def draw(self) -> RenderableType:
        """Draw the run as it is now."""
        state = self._state
        state.read_logs()
        done, left = wording.jobs(state.done, state.total, state.more_follow), wording.time_left(state.seconds_left())
        if self._console.width < NARROW:
            return Group(Text(f"{done}, {left}"), *self._short_lines())
        whole = Table.grid(padding=(0, 2), expand=True)
        whole.add_column(ratio=1)
        for _ in range(3):
            whole.add_column(justify="right", no_wrap=True)
        whole.add_row(
            ProgressBar(total=1, completed=state.share_done()),
            done,
            left,
            f"{wording.clock(state.clock() - state.started)} so far",
        )
        parts: list[RenderableType] = [whole]
        if ahead := wording.ahead(state.ahead, state.more_follow):
            parts.append(Text(f"({ahead})", style="dim"))
        jobs = self._jobs()
        if jobs:
            parts.append(self._table(jobs[:MOST_JOBS]))
        if len(jobs) > MOST_JOBS:
            parts.append(Text(f"  and {len(jobs) - MOST_JOBS} more jobs", style="dim"))
        return Group(*parts)

    def _jobs(self) -> list[Job]:
        """The running jobs, those that began first in front."""
        return sorted(self._state.running.values(), key=lambda job: job.started)

    def _short_lines(self) -> list[Text]:
        """A line per running job for a narrow terminal: how far it is, and what it does."""
        lines = []
        for job in self._jobs()[:MOST_JOBS]:
            share = f"{job.progress.share:4.0%} " if job.progress else "     "
            lines.append(Text(share + job.title, no_wrap=True, overflow="ellipsis"))
        return lines

    def _table(self, jobs: list[Job]) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=16)
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        for job in jobs:
            elapsed = f"{wording.clock(self._state.clock() - job.started)} so far"
            title = Text(f"  {job.title}")  # no markup: brackets in it are text
            if job.progress is None:
                table.add_row(title, "", "", "", elapsed)
                continue
            left = "" if job.progress.left is None else wording.time_left(self._state.rest(job)).removeprefix("about ")
            bar = ProgressBar(total=1, completed=job.progress.share, width=16)
            table.add_row(title, bar, Text(job.progress.rate), left, elapsed)
        return table
