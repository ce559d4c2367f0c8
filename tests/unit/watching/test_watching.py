"""What a run shows: progress read from logs, time left, lines without a terminal, failures, and how it ended."""

import io
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from knowshift.runtime.progress import progress
from watching import wording
from watching.handler import Watcher, install
from watching.log_files import last_lines, read_progress
from watching.run_state import Foreseen, Job, RunState
from watching.screen import Screen

PLAN = {"probe_mastery": Foreseen(2, 10), "count_levels": Foreseen(1, 1), "finetune": Foreseen(4, 30)}
STATS = {"probe_mastery": 2, "count_levels": 1, "all": 1, "total": 4}


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def state() -> tuple[RunState, Clock]:
    clock = Clock()
    return RunState(lambda: PLAN, clock), clock


def test_the_progress_that_scripts_write_is_read_from_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "job.log"
    assert read_progress(log) is None
    with log.open("w") as file:
        monkeypatch.setattr("sys.stderr", file)
        with progress(what="outcomes.parquet", unit="questions", total=200) as bar:
            bar.delay = bar.mininterval = 0
            bar.start_t -= 10  # ten seconds ago
            bar.update(50)
            bar.refresh()
    found = read_progress(log)
    assert found and found.share == 0.25 and found.rate.endswith("questions/s")
    assert found.left is not None and 28 <= found.left <= 32
    with log.open("a") as file:
        file.write("\rLoading weights: 100%|####| 272/272 [00:00<00:00, 17451.14it/s]\n\nerror: no such fact\n")
    again = read_progress(log)
    assert again and again.share == 0.25 and last_lines(log, 3) == ["error: no such fact"]


def test_a_slow_bar_says_seconds_per_unit(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("\rtraining:  75%|#######5  | 3/4 [00:10<00:03,  3.48s/ steps]")
    found = read_progress(log)
    assert found and (found.share, found.rate, found.left) == (0.75, "3.48s per step", 3)


def test_jobs_after_the_checkpoint_are_counted_ahead_and_then_as_they_are() -> None:
    run, clock = state()
    run.workers = 2
    run.plan(STATS)
    assert (run.total, run.ahead) == (8, 4)
    assert run.seconds_left() == pytest.approx((2 * 10 + 1 + 4 * 30) / 2)
    for number, rule in enumerate(["probe_mastery", "probe_mastery", "count_levels"]):
        run.start(Job(number, rule, rule))
        clock.now += 20 if rule == "probe_mastery" else 2  # all take twice the time that was planned
        run.finish(number)
    run.count(3, 4)
    assert run.total == 8  # Snakemake has not counted anew
    run.count(3, 6)
    assert (run.total, run.ahead) == (6, 0)  # two cells turned out infeasible
    assert run.seconds_left() == pytest.approx(2 * 60 / 2)
    run.start(Job(7, "finetune", "one"))
    clock.now += 15
    left = run.seconds_left()
    assert left is not None and 60 / 2 < left <= 60
    assert 0 < run.share_done() < 1


def test_a_run_is_over_though_fewer_jobs_followed_than_were_planned() -> None:
    run, _ = state()
    run.plan(STATS)
    run.count(3, 4)
    assert not run.is_over
    run.count(4, 4)
    assert run.is_over and run.total > 4


def test_what_a_log_holds_never_ends_a_run(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_bytes(b"\xff\xfe\ra:  4%|#| 4.5.6/1..0 [:<:, x]\xff\n\xe2\x28 end")
    assert read_progress(log) is None and last_lines(log, 1) == ["\ufffd( end"]
    assert read_progress(tmp_path) is None and last_lines(tmp_path, 1) == []


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}])
@pytest.mark.parametrize("width", [1, 7, 30, 69, 70, 120])
def test_a_terminal_of_any_width_says_what_runs(tmp_path: Path, width: int, colour: dict) -> None:
    log = tmp_path / "job.log"
    log.write_text("\ro.parquet:  45%|####5     | 45/100 [00:12<00:15, 3.61 questions/s]")
    run, _ = state()
    run.plan(STATS)
    run.start(Job(1, "probe_mastery", "Ask [red]it[/red]", [log]))
    stream = io.StringIO()
    screen = Screen(run, stream)
    screen._console = Console(file=stream, width=width, force_terminal=True, _environ={"TERM": "xterm", **colour})
    screen._console.print(screen.draw())
    lines = stream.getvalue().splitlines()
    assert width < 30 or any("Ask [r" in line for line in lines)


def test_a_stage_that_is_no_whole_run_says_that_more_follows() -> None:
    run, _ = state()
    run.plan({"probe_mastery": 2, "count_levels": 1, "finetunes": 1, "total": 4})
    assert run.more_follow and run.ahead == 0
    run.plan({"probe_mastery": 2, "count_levels": 1, "mastery": 1, "total": 4})
    assert not run.more_follow


def record(event: LogEvent | None, message: str = "", level: int = logging.INFO, **more) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    vars(made).update(more if event is None else {"event": event, **more})
    return made


def job_info(number: int, rule: str, log: Path) -> logging.LogRecord:
    details = {"rule_msg": f"Do {rule}", "rule_name": rule, "log": [str(log)], "reason": '{"much": "JSON"}'}
    return record(LogEvent.JOB_INFO, jobid=number, **details)


def watch(report: Path, *records: logging.LogRecord) -> str:
    """What a watcher writes where there is no terminal."""
    stream = io.StringIO()
    watcher = Watcher(lambda: PLAN, report, stream)
    for each in records:
        watcher.handle(each)
    watcher.close()
    watcher.close()
    return stream.getvalue()


REPORT = """<section class="abstract" id="summary"><h2>In short</h2><p>Of 2 recipes
<b>one</b> is best &amp; short.</p><pre><code>command</code></pre><ul><li>A claim: <b>holds</b>.</li></ul>
<nav><ol><li>1 Contents</li></ol></nav></section><section id="asked"><p>More.</p></section>"""


def test_a_run_without_a_terminal_is_a_line_per_job_and_ends_in_the_report(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(REPORT)
    text = watch(
        report,
        record(None, "Building DAG of jobs..."),
        record(LogEvent.RUN_INFO, stats={"report": 1, "total": 1}),
        job_info(1, "report", tmp_path / "no.log"),
        record(LogEvent.JOB_FINISHED, job_id=1),
        record(LogEvent.PROGRESS, done=1, total=1),
    )
    lines = text.splitlines()
    assert lines[0] == "1 jobs" and "1 of 1 jobs  Do report (0 s)" in lines[1] and lines[2].startswith("1 jobs done")
    ending = [f"Report: {report}", "  Of 2 recipes one is best & short.", "  A claim: holds."]
    assert lines[3:] == ending and "JSON" not in text


def test_a_failure_is_told_in_full_with_the_end_of_its_log_and_a_warning_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("\n".join(f"line {number}" for number in range(40)))
    failed = {"rule_name": "finetune", "rule_msg": None, "log": [str(log)], "shellcmd": "python x.py", "aux": {}}
    text = watch(
        tmp_path / "report.html",
        record(LogEvent.RUN_INFO, stats={"finetune": 2, "total": 2}),
        job_info(5, "finetune", log),
        record(None, "the disk is nearly full", logging.WARNING),
        record(LogEvent.ERROR, "CalledProcessError in file x", logging.ERROR, exception="RuleException"),
        record(LogEvent.JOB_ERROR, "Error", logging.ERROR, jobid=5, indent=False, **failed),
        record(LogEvent.ERROR, "MissingInputException: y", logging.ERROR, exception="MissingInputException"),
    )
    assert "FAILED  Do finetune (rule finetune)\n  command: python x.py\n" in text
    assert "    line 25\n" in text and "    line 39\n" in text and "line 24" not in text
    assert "the disk is nearly full" in text and "MissingInputException: y" in text and "CalledProcess" not in text
    assert f"Not finished: 0 of 2 jobs done, 1 failed.\n  Do finetune: {log}\n" in text and "Report:" not in text


def test_what_a_rule_says_of_the_configuration_is_one_line(tmp_path: Path) -> None:
    raised = (
        'InputFunctionException in rule all in file "/a/rules/targets.smk", line 7:\nError:\n  WorkflowError:\n'
        '    exports.0.run: too few facts\nWildcards:\n\nTraceback:\n  File "/a/rules/targets.smk", line 8, in f'
    )
    text = watch(tmp_path / "report.html", record(LogEvent.ERROR, raised, logging.ERROR, exception="RuleException"))
    assert text == "error: exports.0.run: too few facts\n"


def test_jobs_that_an_interrupted_run_ends_are_no_failures(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("Traceback\nKeyboardInterrupt\n")
    failed = {"rule_name": "finetune", "rule_msg": None, "log": [str(log)], "shellcmd": "python x.py", "aux": {}}
    text = watch(
        tmp_path / "report.html",
        record(LogEvent.RUN_INFO, stats={"finetune": 2, "total": 2}),
        job_info(5, "finetune", log),
        record(None, "Terminating processes on user request, this might take some time.", logging.WARNING),
        record(LogEvent.JOB_ERROR, "Error", logging.ERROR, jobid=5, indent=False, **failed),
    )
    assert "FAILED" not in text and "Traceback" not in text and "Not finished: 0 of 2 jobs done, 1 stopped." in text


def test_a_terminal_is_drawn_on(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        log = tmp_path / "job.log"
        log.write_text("\ro.parquet:  45%|####5     | 45/100 [00:12<00:15, 3.61 questions/s]")
        watcher = Watcher(lambda: PLAN, tmp_path / "report.html", stream)
        watcher.handle(record(LogEvent.RUN_INFO, stats=STATS))
        watcher.handle(job_info(1, "probe_mastery", log))
        watcher._screen._live.refresh()
        watcher.close()
    text = os.read(mine, 1 << 16).decode()
    os.close(mine)
    assert "0 of 8 jobs" in text and "4 of them as planned" in text and "left" in text
    assert "Do probe_mastery" in text and "3.61 questions/s" in text


def test_it_stands_aside_where_snakemakes_own_output_is_asked_for(tmp_path: Path) -> None:
    plain = dict.fromkeys(["dryrun", "verbose", "debug_dag", "printshellcmds"], False) | {"quiet": None}
    for asked in ({}, {"dryrun": True}, {"verbose": True}, {"printshellcmds": True}, {"quiet": {"all"}}):
        logger = logging.Logger("snakemake")
        logger.addHandler(ColorizingTextHandler(stream=io.StringIO(), formatter=DefaultFormatter()))
        put = install(logger, SimpleNamespace(**plain | asked), lambda: PLAN, tmp_path)
        assert put == (not asked) and isinstance(logger.handlers[0], Watcher) == (not asked)
    assert not install(logging.Logger("other"), SimpleNamespace(**plain), lambda: PLAN, tmp_path)


def test_durations_in_words() -> None:
    assert [wording.clock(seconds) for seconds in (5, 99, 185, 7800)] == ["5 s", "99 s", "3:05 min", "2:10 h"]
    assert wording.time_left(None) == "time left not known yet" and wording.time_left(130) == "about 2 min left"
    assert 'id="summary"' in (Path(__file__).parents[3] / "resources/report/parts/summary.html.jinja").read_text()
