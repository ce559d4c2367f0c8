"""Turns what Snakemake logs into what a person watches: a live screen on a terminal, else one line per finished job.

The complete log, with the reason of every job, is in .snakemake/log/ as before. Snakemake's own output stays where a
person asks for it: in dry runs, with --verbose, --printshellcmds, --debug-dag or --quiet, and beside a logger plugin
that writes to the terminal.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from watching import wording
from watching.log_files import last_lines
from watching.run_state import Foreseen, Job, RunState
from watching.screen import Screen

LINES_OF_LOG = 15  # that are shown of a failed job
# What Snakemake says on the way, and what is shown in other words.
ROUTINE = re.compile(
    r"Assuming unrestricted|Workflow has started|Building DAG|Using shell|Provided |Rules claiming|Job stats"
    r"|Select jobs|Execute \d+ jobs|Conda environments: ignored|Singularity containers: ignored|Group jobs: inactive"
    r"|Elapsed time"
    r"|DAG of jobs will be updated|Updating |Removing temporary output|Touching output|Shell command|Group job "
    r"|Complete log|Exiting because a job execution failed|At least one job did not complete|Trying to restart job"
    r"|Processed \d+ potential|Shutting down, this might|None$"
)
OTHER_MODELS = (
    "If one model cannot finish: --keep-going finishes the others, and then --config 'report_on=[\"NAME\", …]' makes"
    " the report on those that did."
)
STOPPED = "Terminating processes on user request"  # what Snakemake says when it is interrupted
# Errors that say once more what is told of the failed job.
TOLD = re.compile(r"CalledProcessError in file|At least one job did not complete")
# What a function of a rule says of the configuration, once a checkpoint is there; its place in the rules tells nothing.
SAID_BY_RULES = re.compile(r"InputFunctionException.*?\n\s*WorkflowError:\s*\n\s*(?P<said>[^\n]+)", re.DOTALL)


class Watcher(logging.Handler):
    """Shows a run.

    Args:
        foresee: returns what was planned per rule.
        report: path of the report that a run ends in.
        stream: where it is shown; a live screen if it is a terminal.
        models: how many models the experiment has.
    """

    def __init__(
        self,
        foresee: Callable[[], Mapping[str, Foreseen]],
        report: Path,
        stream: TextIO | None = None,
        models: int = 1,
    ) -> None:
        super().__init__()
        self.name = "Watcher"
        self._stream = stream or sys.stderr
        self._report, self._report_made, self._models = report, False, models
        self._state = RunState(foresee)
        self._screen = Screen(self._state, self._stream) if Screen.suits(self._stream) else None
        self._closed = self._running = self._stopped = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take up an event, or pass a message on."""
        try:
            event = getattr(record, "event", None)
            react = getattr(self, f"_on_{event}", None) if event else None
            if react:
                react(vars(record))
            elif record.levelno >= logging.INFO and not ROUTINE.match(record.getMessage().strip()):
                self._stopped |= record.getMessage().startswith(STOPPED)
                self._say(record.getMessage())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Take the live screen away, and say how the run ended."""
        if not self._closed:
            self._closed = True
            if self._screen:
                self._screen.stop()
            for line in self._ending():
                self._say(line)
        super().close()

    def _say(self, text: str) -> None:
        text = text.strip("\n")
        if self._screen:
            self._screen.say(text)
        elif text:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _on_resources_info(self, record: Mapping[str, Any]) -> None:
        workers = record.get("cores") or record.get("nodes")
        if isinstance(workers, int):
            self._state.workers = workers

    def _on_run_info(self, record: Mapping[str, Any]) -> None:
        self._state.plan(record["stats"])
        self._running = True
        more = wording.ahead(self._state.ahead, self._state.more_follow)
        self._say(f"{self._state.total} jobs" + (f" ({more})" if more else ""))
        if self._screen and set(record["stats"]) - {"plan", "total"}:
            self._screen.start()

    def _on_job_info(self, record: Mapping[str, Any]) -> None:
        title = record["rule_msg"] or record["rule_name"]
        logs = [Path(path) for path in record["log"]]
        self._state.start(Job(record["jobid"], record["rule_name"], title, logs))

    def _on_job_finished(self, record: Mapping[str, Any]) -> None:
        found = self._state.finish(record["job_id"])
        if not found:
            return
        job, seconds = found
        self._report_made |= job.rule == "report"
        if not self._screen and job.logs:
            count = wording.jobs(self._state.done + 1, self._state.total, self._state.more_follow)
            self._say(f"{time.strftime('%H:%M:%S')}  {count}  {job.title} ({wording.clock(seconds)})")

    def _on_progress(self, record: Mapping[str, Any]) -> None:
        self._state.count(record["done"], record["total"])

    def _on_job_error(self, record: Mapping[str, Any]) -> None:
        job = self._state.fail(record["jobid"])
        if self._stopped or (not job and record.get("indent")):
            return  # it was ended together with the run, or is one of a group and told before
        title = job.title if job else record["rule_name"]
        lines = [f"FAILED  {title} (rule {record['rule_name']})"]
        if record.get("rule_msg"):
            lines.append(f"  {record['rule_msg']}")
        lines += [f"  {name}: {value}" for name, value in (record.get("aux") or {}).items()]
        if record.get("shellcmd"):
            lines.append(f"  command: {record['shellcmd']}")
        for path in map(Path, record["log"]):
            tail = last_lines(path, LINES_OF_LOG)
            lines.append(f"  log: {path}" + (", its last lines:" if tail else " (empty, or not there)"))
            lines += [f"    {line}" for line in tail]
        self._say("\n".join(lines))

    def _on_error(self, record: Mapping[str, Any]) -> None:
        if found := SAID_BY_RULES.match(record["msg"]):
            self._say(f"error: {found['said']}")
        elif not TOLD.search(record["msg"]):
            self._say(record["msg"])

    def _on_group_error(self, record: Mapping[str, Any]) -> None:
        for path in map(Path, record.get("aux_logs") or []):
            tail = "\n".join(f"    {line}" for line in last_lines(path, LINES_OF_LOG))
            self._say(f"  log of the group: {path}\n{tail}")

    def _on_shellcmd(self, record: Mapping[str, Any]) -> None:
        pass

    _on_workflow_started = _on_group_info = _on_job_started = _on_rulegraph = _on_debug_dag = _on_shellcmd

    def _ending(self) -> list[str]:
        """The lines that say how the run ended."""
        state = self._state
        if self._running and state.is_over:
            lines = [f"{state.done} jobs done in {wording.clock(state.clock() - state.started)}."]
        elif self._running:
            failed = [f"  {job.title}: {', '.join(map(str, job.logs)) or job.rule}" for job in state.failed.values()]
            how = "stopped" if self._stopped else "failed"
            lines = [f"Not finished: {state.done} of {state.total} jobs done, {len(failed)} {how}.", *failed]
            lines.append("The same command goes on where it stopped.")
            if self._models > 1 and failed and not self._stopped:
                lines.append(OTHER_MODELS)
        else:
            lines = []
        if self._report_made:
            lines += [f"Report: {self._report}", *(f"  {line}" for line in wording.in_short(self._report))]
        return lines


def install(
    logger: logging.Logger,
    settings: OutputSettingsLoggerInterface,
    foresee: Callable[[], Mapping[str, Foreseen]],
    report: Path,
    models: int = 1,
) -> bool:
    """Put a watcher in the place of Snakemake's output to the terminal, where nothing asks for that.

    Args:
        logger: Snakemake's logger.
        settings: how Snakemake was asked to log.
        foresee: returns what was planned per rule; it is called when jobs start.
        report: path of the report that a run ends in.
        models: how many models the experiment has.

    Returns:
        Whether it was put there.
    """
    own = [handler for handler in logger.handlers if type(handler) is ColorizingTextHandler]
    asked = settings.dryrun or settings.verbose or settings.debug_dag or settings.printshellcmds or settings.quiet
    if asked or len(own) != 1:
        return False
    logger.removeHandler(own[0])
    logger.addHandler(Watcher(foresee, report, own[0].stream, models))
    return True
