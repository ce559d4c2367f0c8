"""The words in which a run is shown."""

import html
import re
from pathlib import Path

SUMMARY = re.compile(r'<section[^>]*id="summary"[^>]*>(.*?)</section>', re.DOTALL)
PARTS = re.compile(r"<(p|li)\b[^>]*>(.*?)</\1>", re.DOTALL)
ASIDE = re.compile(r"<(nav|pre)\b.*?</\1>", re.DOTALL)


def clock(seconds: float) -> str:
    """Write a duration: 45 s, 3:05 min, 2:10 h."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def time_left(seconds: float | None) -> str:
    """Write roughly how long something will take: to the second below a minute, else to the minute."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 60:
        return f"about {max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 100 else f"about {seconds / 3600:.1f} h left"


def jobs(done: int, total: int, more_follow: bool) -> str:
    """Write how many jobs are done."""
    return f"{done} of {total} jobs" + (" known so far" if more_follow else "")


def ahead(number: int, more_follow: bool) -> str:
    """Write which jobs are counted ahead of what Snakemake knows; empty if there are none."""
    if number:
        return f"{number} of them as planned; how many there are is known once mastery levels are counted"
    return "more jobs follow once mastery levels are counted" if more_follow else ""


def in_short(report: Path) -> list[str]:
    """Return the paragraphs and items of the report's section In short, as plain text; empty if it has none."""
    try:
        found = SUMMARY.search(report.read_text(encoding="utf-8"))
    except OSError:
        return []
    if not found:
        return []
    parts = [text for _, text in PARTS.findall(ASIDE.sub("", found[1]))]
    plain = [" ".join(html.unescape(re.sub(r"<[^>]+>", "", part)).split()) for part in parts]
    return [text for text in plain if text]
