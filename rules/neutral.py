"""Record that a change of code leaves results as they were, so that the results it would make stale are kept.

    python rules/neutral.py                                       # rules that changes since the last commit make stale
    python rules/neutral.py finetune evaluate --reason "renamed"  # their results are the same with the new code
    python rules/neutral.py --all --reason "renamed" --since main

Run it when the edit is finished, and commit neutral_changes.csv with it. The file says, per script, which digest of its
code stands for which older one, so results of the older code stay valid for everyone who has the commit. Chains of
recorded changes are followed. A later change that is not recorded has a digest of its own, and counts.
"""

import argparse
import csv
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from code_digests.digests import code_digest

RULES = Path(__file__).parent
SCRIPTS = RULES.parent / "scripts"
FILE = RULES / "neutral_changes.csv"
COLUMNS = ["script", "new", "old", "reason"]

Changes = Mapping[tuple[str, str], str]  # script and new digest to old digest


class NeutralError(Exception):
    """The one line that says what is wrong."""


def read_changes(path: Path = FILE) -> Changes:
    """Read the recorded changes; a missing file holds none.

    Raises:
        NeutralError: a line is no record; the message names the first.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise NeutralError(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    if rows[:1] != [COLUMNS]:
        raise NeutralError(f"{path}, line 1: must be {','.join(COLUMNS)}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS) or not all(re.fullmatch("[0-9a-f]{16}", digest) for digest in row[1:3]):
            raise NeutralError(f"{path}, line {number}: must be a script, two digests of 16 digits, and a reason")
    return {(script, new): old for script, new, old, _ in rows[1:]}


def settle(script: str, digest: str, changes: Changes) -> str:
    """Return the oldest digest that only recorded changes part from `digest`."""
    seen = set()
    while (script, digest) in changes and digest not in seen:
        seen.add(digest)
        digest = changes[script, digest]
    return digest


def scripts_of_rules(rules: Path = RULES) -> dict[str, str | None]:
    """Map each rule that makes something to the script whose code it is keyed to, or None."""
    scripts: dict[str, str | None] = {}
    for path in sorted(rules.glob("*.smk")):
        name = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\s*(?:(?:rule|checkpoint) (\w+)|use rule \w+ as (\w+) with):", line):
                name = found[1] or found[2]
            elif found := re.match(r'\s+code=(?:digest\("(\w+)"\))?', line):
                scripts[name] = found[1]
    return scripts


def digests_at(revision: str, names: Sequence[str], scripts: Path = SCRIPTS) -> dict[str, str]:
    """Return the digests of scripts as they were committed, of those that existed then.

    Raises:
        NeutralError: this is no git repository, or it has no such revision.
    """
    if revision.startswith("-") or not revision.isprintable():
        raise NeutralError(f"--since: {revision!r} is no revision of git")  # git would take it for an option
    command = ["git", "-C", str(scripts.parent), "archive", "--format=tar", revision, scripts.name]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise NeutralError(f"git cannot be started ({error.strerror}); it knows the code of {revision}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise NeutralError(f"git knows no code of {revision}: {said[-1]}")
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        then = Path(folder, scripts.name)
        return {name: code_digest(then, name) for name in names if (then / f"{name}.py").is_file()}


def record(scripts: Sequence[str], since: str, reason: str, path: Path = FILE) -> None:
    """Append a line for each script: its digest now stands for what its digest at `since` stood for.

    Raises:
        NeutralError: a script has not changed since, or a spreadsheet would take the reason for a formula.
    """
    if not reason[:1].isalnum():
        raise NeutralError("--reason: begin it with a letter")
    changes, before = read_changes(path), digests_at(since, scripts)
    rows = []
    for script in scripts:
        if script not in before:
            raise NeutralError(f"scripts/{script}.py is not in {since}, so nothing was made with it")
        new, old = code_digest(SCRIPTS, script), before[script]
        if settle(script, new, changes) == settle(script, old, changes):
            raise NeutralError(f"the code of {script} makes nothing stale since {since}; there is nothing to record")
        if (script, new) in changes:
            raise NeutralError(f"{path.name} has a line for {script} with the digest {new} already; remove it first")
        rows.append([script, new, old, reason])
    fresh = not path.is_file()
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows] if fresh else rows)


def main() -> None:
    """Read the command line, and list the stale rules or record a change as neutral."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rules", nargs="*", metavar="RULE", help="Rules whose results the new code leaves as they were."
    )
    parser.add_argument("--all", action="store_true", help="Record all rules that the changes make stale.")
    parser.add_argument("--reason", metavar="TEXT", help="Why the results are the same, for people to read.")
    parser.add_argument(
        "--since", default="HEAD", metavar="REVISION", help="Revision that the results were made with (default: HEAD)."
    )
    arguments = parser.parse_args()

    known = scripts_of_rules()
    for name in arguments.rules:
        if name not in known:
            raise NeutralError(f"there is no rule {name}; the rules are {', '.join(sorted(known))}")
        if known[name] is None:
            raise NeutralError(f"rule {name} is not keyed to its code, so no change of it makes anything stale")
    changes = read_changes()
    every = sorted(set(filter(None, known.values())))
    before = digests_at(arguments.since, every)
    stale = [
        script
        for script in every
        if script in before
        and settle(script, before[script], changes) != settle(script, code_digest(SCRIPTS, script), changes)
    ]
    if not arguments.rules and not stale:
        print(f"no code that makes a result has changed since {arguments.since}")
        return
    if not arguments.rules and not arguments.all:
        print("\n".join(rule for rule, script in known.items() if script in stale))
        return
    if not (arguments.reason or "").strip():
        raise NeutralError("say why the results are the same: --reason TEXT")
    if not arguments.reason.isprintable():
        raise NeutralError("--reason must be one line of text")
    chosen = list(dict.fromkeys(filter(None, (known[name] for name in arguments.rules)))) or stale
    record(chosen, arguments.since, arguments.reason.strip())
    print(f"{FILE.name}: {len(chosen)} recorded ({', '.join(chosen)}); commit it with the change")


if __name__ == "__main__":
    try:
        main()
    except (NeutralError, SyntaxError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
