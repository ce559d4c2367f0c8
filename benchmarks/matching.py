"""Seconds for a million `contains` (knowshift.facts.matching) checks on one core, for both rules.

    python benchmarks/matching.py

The texts are stored completions of the default run, each checked for the object of its fact and that object's synonyms,
as grade_mastery does; without a run, sentences made of the facts. Cold is one pass over the distinct texts with empty
caches, scaled to a million; warm is the median of whole millions, in which texts come up again.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from measuring import alone, machine, median, show, timed

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import pyarrow.parquet as pq  # noqa: E402

from knowshift.facts import matching  # noqa: E402
from knowshift.facts.templates import SUBJECT, read_topic_templates  # noqa: E402

Check = tuple[str, list[str]]  # a text and the names to look for


def synonyms() -> matching.Synonyms:
    """The default experiment's other names of objects."""
    return matching.Synonyms.read([ROOT / "resources/synonyms.csv", ROOT / "resources/facts/synonyms.csv"])


def from_completions(folder: Path) -> list[Check]:
    """Stored completions under `results/MODEL/completions`, with the names of their facts' objects."""
    names, checks = synonyms(), []
    for path in sorted(folder.glob("completions/*.parquet")):
        topic = path.name.partition(".")[0]
        facts = pq.read_table(folder.parent / f"facts/{topic}.parquet", columns=["fact_id", "object"]).to_pydict()
        objects = dict(zip(facts["fact_id"], facts["object"], strict=True))
        rows = pq.read_table(path, columns=["fact_id", "text"]).to_pydict()
        checks += [(text, names.names(objects[fact])) for fact, text in zip(*rows.values(), strict=True)]
    return checks


def from_facts() -> list[Check]:
    """For every default fact and template a sentence that holds the object, and one that holds another fact's."""
    names, checks = synonyms(), []
    for path in sorted((ROOT / "resources/facts/train").glob("*.json")):
        templates = read_topic_templates(ROOT / f"resources/templates/{path.name.partition('.')[0]}.yaml")
        rows = json.loads(path.read_text(encoding="utf-8"))
        for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
            for template in templates.completions:
                for answer in (row["answers"][0], other["answers"][0]):
                    sentence = template.replace(SUBJECT, templates.subject_of(row["question"]) or "")
                    checks.append((f" {answer}. {sentence}", names.names(row["answers"][0])))
    return checks


def run(checks: list[Check], rule: str) -> int:
    """How many texts hold a name."""
    return sum(matching.contains(text, names, rule) for text, names in checks)


def clear_caches() -> None:
    """Forget what earlier checks left behind."""
    for value in vars(matching).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def main() -> None:
    """Read the command line, measure, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("results/smollm2-135m"), help="folder of a model's results")
    parser.add_argument("--checks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="warm passes")
    parser.add_argument("--lock", type=Path, help="file to lock while something is timed, on a shared machine")
    arguments = parser.parse_args()

    distinct = from_completions(arguments.model) or from_facts()
    checks = list(itertools.islice(itertools.cycle(distinct), arguments.checks))
    table = []
    for rule in matching.RULES:
        clear_caches()
        with alone(arguments.lock):
            cold = timed(lambda rule=rule: run(distinct, rule)) / len(distinct)
            warm = [timed(lambda rule=rule: run(checks, rule)) / len(checks) for _ in range(arguments.rounds)]
        table.append(
            {
                "rule": rule,
                "cold, s per million": round(1e6 * cold, 2),
                "warm, s per million": round(1e6 * median(warm), 2),
                "found": f"{run(distinct, rule) / len(distinct):.1%}",
            }
        )
    length = sum(len(text) for text, _ in distinct) / len(distinct)
    about = (
        f"{len(checks):,} checks of {len(distinct):,} distinct texts of {length:.0f} characters on average; one core; "
    )
    show("matching", table, about + machine("pyarrow"))


if __name__ == "__main__":
    main()
