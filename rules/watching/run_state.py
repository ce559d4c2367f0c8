"""What is known of a run: jobs that wait, run, are done or failed, and how long the rest will take."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from watching.log_files import LogProgress, read_progress

CHECKPOINT = "count_levels"  # the jobs that follow it are not known to Snakemake before it is done
DEFAULT_TARGET = "all"
# The rules up to the checkpoint; of later ones, those that Snakemake does not count yet are foreseen.
EARLY = {"retrieve_entityquestions", "build_facts", "resolve_model", "probe_mastery", "grade_mastery", CHECKPOINT}
TRUST_SECONDS = 60  # of a run until its own parallelism is believed


@dataclass(frozen=True)
class Foreseen:
    """What was planned for a rule: its number of jobs, and the seconds that one takes."""

    jobs: int
    seconds: float


@dataclass
class Job:
    """A job that runs or has run.

    Attributes:
        number: Snakemake's number of it.
        rule: name of its rule.
        title: what it does, in words.
        logs: its log files.
        started: reading of the clock.
        progress: how far it is, by its log; None if it does not say.
    """

    number: int
    rule: str
    title: str
    logs: list[Path] = field(default_factory=list)
    started: float = 0
    progress: LogProgress | None = None


class RunState:
    """Follows the events of a run.

    Another thread draws it while events come in, so what it goes through in Python is copied first.

    Args:
        foresee: returns what was planned per rule. It is called once, when the run starts.
        clock: returns seconds.
    """

    def __init__(self, foresee: Callable[[], Mapping[str, Foreseen]], clock: Callable[[], float] = time.time) -> None:
        self._foresee, self.clock = foresee, clock
        self._foreseen: Mapping[str, Foreseen] = {}
        self._waiting: Counter[str] = Counter()  # jobs per rule when the run started
        self._finished: dict[str, list[float]] = defaultdict(list)  # rule to seconds of its jobs
        self._numbers: set[int] = set()
        self.running: dict[int, Job] = {}
        self.failed: dict[int, Job] = {}
        self.workers: int | None = None
        self.done, self._total, self.started = 0, 0, clock()

    def plan(self, stats: Mapping[str, int]) -> None:
        """Note the jobs per rule that Snakemake knows when the run starts; one entry is their total."""
        self._waiting = Counter({rule: jobs for rule, jobs in stats.items() if rule != "total"})
        self._total, self.started = self._waiting.total(), self.clock()
        self._foreseen = self._foresee()

    def start(self, job: Job) -> None:
        """Note that a job starts, perhaps once more."""
        job.started = self.clock()
        self.failed.pop(job.number, None)
        self.running[job.number] = job

    def finish(self, number: int) -> tuple[Job, float] | None:
        """Note that a job is done, and return it with its seconds; None if it was done before or is not known."""
        if number in self._numbers or number not in self.running:
            return None
        job = self.running.pop(number)
        self.failed.pop(number, None)
        seconds = self.clock() - job.started
        self._numbers.add(number)
        self._finished[job.rule].append(seconds)
        return job, seconds

    def fail(self, number: int) -> Job | None:
        """Note that a job failed, and return it if it is known."""
        job = self.running.pop(number, None)
        if job:
            self.failed[number] = job
        return job

    def count(self, done: int, total: int) -> None:
        """Note what Snakemake counts: all jobs that are done, and all that it knows of."""
        self.done, self._total = done, total

    @property
    def is_over(self) -> bool:
        """Whether all jobs that Snakemake knows of are done. Perhaps fewer followed the checkpoint than was planned."""
        return self.done >= self._total and not self.failed

    @property
    def ahead(self) -> int:
        """The number of jobs that Snakemake does not know yet, by the plan; 0 once it knows all."""
        return sum(self._ahead().values())

    @property
    def more_follow(self) -> bool:
        """Whether jobs will follow that nobody has counted."""
        return self._checkpoint_ahead() and not self.ahead and "mastery" not in self._waiting

    @property
    def total(self) -> int:
        """The number of all jobs of the run, as far as it is known or planned."""
        return self._total + self.ahead

    def read_logs(self) -> None:
        """Read how far the running jobs are."""
        for job in list(self.running.values()):
            job.progress = next((found for path in job.logs if (found := read_progress(path))), None)

    def seconds_left(self) -> float | None:
        """Estimate the seconds until the run is over; None while nothing tells."""
        jobs = list(self.running.values())
        rests = [rest for job in jobs if (rest := self.rest(job)) is not None]
        waiting = self._rest_of_waiting()
        if waiting is None or len(rests) < len(jobs):
            return None
        return max([(waiting + sum(rests)) / self._parallel(), *rests])

    def share_done(self) -> float:
        """The share of the run's work that is done, 0 to 1: by time where it is known, else by jobs."""
        done, left = sum(map(sum, self._finished.values())), self.seconds_left()
        if left is None:
            return self.done / self.total if self.total else 0.0
        done += sum(self.clock() - job.started for job in list(self.running.values()))
        return done / max(1e-9, done + left * self._parallel())

    def _checkpoint_ahead(self) -> bool:
        return len(self._finished[CHECKPOINT]) < self._waiting[CHECKPOINT] or (
            self._waiting[CHECKPOINT] > 0 and self._total <= self._waiting.total()
        )

    def _ahead(self) -> Counter[str]:
        """Jobs per rule that the plan foresees and that Snakemake does not know yet."""
        if DEFAULT_TARGET not in self._waiting or not self._checkpoint_ahead():
            return Counter()
        later = [rule for rule in self._foreseen if rule not in EARLY and rule not in self._waiting]
        return Counter({rule: self._foreseen[rule].jobs for rule in later})

    def _unstarted(self) -> Counter[str]:
        """Jobs per rule that still have to start. What came to be known at the checkpoint is shared out as planned."""
        waiting = Counter(self._waiting)
        waiting.update(self._ahead())
        if (new := self._total - self._waiting.total()) > 0 and not self.ahead:
            later = {rule: plan.jobs for rule, plan in self._foreseen.items() if rule not in {*EARLY, *self._waiting}}
            planned = sum(later.values())
            waiting.update({rule: round(jobs * new / planned) for rule, jobs in later.items()} if planned else {})
        waiting.subtract({rule: len(seconds) for rule, seconds in list(self._finished.items())})
        waiting.subtract(job.rule for job in [*self.running.values(), *self.failed.values()])
        return +waiting

    def _ratio(self) -> float:
        """How many times longer the finished jobs took than was planned, together; 1 before any is finished."""
        both = [(taken, plan) for rule, taken in list(self._finished.items()) if (plan := self._foreseen.get(rule))]
        planned = sum(len(taken) * plan.seconds for taken, plan in both)
        return sum(sum(taken) for taken, _ in both) / planned if planned > 0 else 1.0

    def _seconds_of(self, rule: str) -> float | None:
        """The seconds that a job of a rule takes: as measured in this run, else as planned, else as others took."""
        if self._finished.get(rule):
            return statistics.fmean(self._finished[rule])
        if rule in self._foreseen:
            return self._foreseen[rule].seconds * self._ratio()
        others: Iterable[float] = [seconds for taken in list(self._finished.values()) for seconds in taken]
        return statistics.fmean(others) if others else None

    def rest(self, job: Job) -> float | None:
        """Estimate the seconds that a running job still takes, by its log or else as its rule takes."""
        if job.progress and job.progress.left is not None:
            return max(0.0, job.progress.left - max(0.0, time.time() - job.progress.written))
        seconds = self._seconds_of(job.rule)
        return None if seconds is None else max(0.0, seconds - (self.clock() - job.started))

    def _rest_of_waiting(self) -> float | None:
        work = 0.0
        for rule, jobs in self._unstarted().items():
            seconds = 0.0 if rule == DEFAULT_TARGET else self._seconds_of(rule)
            if seconds is None:
                return None
            work += jobs * seconds
        return work

    def _parallel(self) -> float:
        """How many jobs run at once on average: as many as there may be, after a while as many as there were."""
        elapsed, limit = self.clock() - self.started, float(self.workers or max(1, len(self.running)))
        if elapsed < TRUST_SECONDS:
            return limit
        busy = sum(map(sum, self._finished.values()))
        busy += sum(self.clock() - job.started for job in list(self.running.values()))
        return min(limit, max(1.0, busy / elapsed))
