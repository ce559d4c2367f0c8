"""Reads the log files of jobs: how far a job is, and the last lines that it wrote."""

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 16384  # of a log file that are read
# A progress bar of tqdm: `name:  45%|████  | 45/100 [00:12<00:15, 3.61 questions/s]`. Loading weights is no stage.
BAR = re.compile(
    r"(?P<what>[^\r\n|]*?): +\d+%\|[^|\r\n]*\| *(?P<done>\d+\.?\d*[kMGT]?)/(?P<total>\d+\.?\d*[kMGT]?) "
    r"\[(?P<elapsed>[\d:]+)<(?P<left>\d+(?::\d+)*|\?), *(?P<rate>[^\]\r\n]*)\]"
)
NO_STAGE = "Loading"
SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class LogProgress:
    """How far a job is, by the last progress bar in its log file.

    Attributes:
        share: 0 to 1.
        rate: as the bar says it, for example 24.6 completions/s.
        left: seconds that the bar expects; None if it cannot tell.
        written: when the file was written last, in seconds since the epoch.
    """

    share: float
    rate: str
    left: float | None
    written: float


def read_progress(path: Path) -> LogProgress | None:
    """Return what the last progress bar in a log file says; None if there is none."""
    try:
        text, written = _tail(path), path.stat().st_mtime
    except OSError:
        return None
    bars = [match for match in BAR.finditer(text) if not match["what"].strip().startswith(NO_STAGE)]
    if not bars or not (total := _number(bars[-1]["total"])):
        return None
    last = bars[-1]
    rate = re.sub(r"\s*/\s+(?=\S)", "/", re.sub(r"s/ (\w+?)s\b", r"s per \1", last["rate"])).strip()
    left = None if last["left"] == "?" else _seconds(last["left"])
    return LogProgress(min(1.0, _number(last["done"]) / total), "" if "?" in rate else rate, left, written)


def last_lines(path: Path, number: int) -> list[str]:
    """Return the last lines of a log file without its progress bars and empty lines; empty if it cannot be read."""
    try:
        text = _tail(path)
    except OSError:
        return []
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text.replace("\x1b[A", ""))]
    return [line for line in lines if line and not re.search(r"\d+%\|", line)][-number:]


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _number(text: str) -> float:
    return float(text[:-1]) * SUFFIXES[text[-1]] if text[-1] in SUFFIXES else float(text)


def _seconds(clock: str) -> float:
    """Turn 1:02:03 or 02:03 into seconds."""
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds
