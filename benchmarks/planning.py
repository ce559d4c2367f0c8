"""How long Snakemake plans the paper's grid, against a bare Snakefile with the same jobs and files.

    python benchmarks/planning.py --rounds 3

Levels of the five models are put in place as published, everything else up to them as empty files: the whole graph is
planned (`snakemake -n`), no model is needed. Then all files are made, empty, and recorded as done: a second run has
nothing to do. The last of --seeds is finished. Wall times are compared, both sides in turn; CPU times show whether
others disturbed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from measuring import alone, machine, median, show

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/support")]

import planned  # noqa: E402

BARE = Path(__file__).with_name("bare.smk")


def experiment(folder: Path, seeds: int) -> dict:
    """The paper's configuration with some of its seeds, written to `folder` together with what is known beforehand."""
    content = yaml.safe_load((ROOT / "configs/paper.yaml").read_text())
    content["finetuning"]["seeds"] = content["finetuning"]["seeds"][:seeds]
    folder.mkdir()
    (folder / "paper.yaml").write_text(yaml.safe_dump(content))
    (folder / "bare.yaml").write_text(yaml.safe_dump({**content, "root": str(ROOT)}))
    planned.know_mastery(content, folder, planned.published_levels())
    return content


def dry_run(folder: Path, snakefile: Path, configuration: str, *arguments: str) -> tuple[float, float, str]:
    """Wall and CPU seconds of a dry run, and what it prints."""
    command = planned.command("--dry-run", "--configfile", configuration, *arguments, snakefile=snakefile)
    with tempfile.TemporaryFile("w+") as output:
        start, before = time.perf_counter(), os.times()
        done = subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
        seconds, after = time.perf_counter() - start, os.times()
        output.seek(0)
        text = output.read()
    if done.returncode:
        raise RuntimeError(text[-3000:])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, text


def compare(folder: Path, rounds: int) -> tuple[dict, dict]:
    """Plan by knowshift and by the bare Snakefile, in turn."""
    sides = {"knowshift": (ROOT / "Snakefile", "paper.yaml"), "bare": (BARE, "bare.yaml")}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    jobs = {}
    for _ in range(rounds):
        for name, (snakefile, configuration) in sides.items():
            wall, cpu, text = dry_run(folder, snakefile, configuration)
            times[name].append((wall, cpu))
            jobs[name] = planned.job_counts(text)
    ours, bare = (jobs[name] for name in sides)
    ours["diff_weights"] = ours.get("diff_weights", 0) + ours.pop("keep_delta", 0)  # one rule in the bare Snakefile
    if ours != bare:
        raise RuntimeError(f"not the same jobs: {ours} and {bare}")
    medians = {name: [median(column) for column in zip(*pairs, strict=True)] for name, pairs in times.items()}
    row = {
        "jobs": sum(bare.values()),
        "knowshift, s": medians["knowshift"][0],
        "bare, s": medians["bare"][0],
        "ratio": medians["knowshift"][0] / medians["bare"][0],
        "knowshift, CPU s": medians["knowshift"][1],
        "ratio of CPU times": medians["knowshift"][1] / medians["bare"][1],
    }
    return row, medians


def reading(folder: Path, rounds: int) -> float:
    """Seconds that Snakemake takes to read the Snakefile, beyond reading an empty one."""
    empty = folder / "empty.smk"
    empty.write_text("")
    times: dict[Path, list[float]] = {empty: [], ROOT / "Snakefile": []}
    for _ in range(rounds):
        for snakefile, seconds in times.items():
            command = planned.command("--list-rules", "--configfile", "paper.yaml", snakefile=snakefile)
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
    return median(times[ROOT / "Snakefile"]) - median(times[empty])


def main() -> None:
    """Read the command line, measure, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of every measurement (default: 3)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 5], help="sizes of the grid (default: 1 2 5)")
    parser.add_argument("--lock", type=Path, help="hold this file while something is timed")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root, alone(arguments.lock):
        for seeds in arguments.seeds:
            folder = Path(root, f"seeds{seeds}")
            content = experiment(folder, seeds)
            row, medians = compare(folder, arguments.rounds)
            cells = len(content["models"]) * 7 * ((len(content["finetuning"]["sizes"]) - 1) * seeds + 1)
            rows.append({"what": f"plan, {seeds} seeds", "cells": cells, **row})
            print(rows[-1], flush=True)
        planned.finish(folder, "--configfile", "paper.yaml")
        nothing = []
        for _ in range(arguments.rounds):
            wall, cpu, text = dry_run(folder, ROOT / "Snakefile", "paper.yaml")
            if "Nothing to be done" not in text:
                raise RuntimeError(f"something would run in the finished experiment:\n{text[-3000:]}")
            nothing.append((wall, cpu))
        wall, cpu = (median(column) for column in zip(*nothing, strict=True))
        rows.append(
            {
                "what": "nothing to do",
                "cells": cells,
                "jobs": 0,
                "knowshift, s": wall,
                "bare, s": medians["bare"][0],
                "ratio": wall / medians["bare"][0],
                "knowshift, CPU s": cpu,
                "ratio of CPU times": cpu / medians["bare"][1],
            }
        )
        rows.append({"what": "reading the Snakefile", "knowshift, s": reading(folder, arguments.rounds)})
    about = f"{machine('snakemake')}; medians of {arguments.rounds} rounds; `bare` plans the same jobs and files."
    show("planning", rows, about)


if __name__ == "__main__":
    main()
