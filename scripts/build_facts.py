"""Build the facts of one topic from its raw question files.

    python scripts/build_facts.py --raw resources/facts --templates resources/templates/P36.yaml \
        --domain in_domain --output facts/P36.parquet

Reads `RAW/{train,dev,test}/TOPIC.{split}.json` (lists of {"question", "answers"}), keeps facts with one answer and one fact
per distinct question, and writes one row per fact. See study: Data.
"""

from collections import Counter
from dataclasses import dataclass

from command_line import CommandLine, option, run
from knowshift.artifacts import write_table
from knowshift.errors import KnowshiftError
from knowshift.facts import FACTS, build_facts, check_rows
from knowshift.progress import start_logging
from knowshift.templates import read_topic_templates


@dataclass(frozen=True)
class Options:
    domain: str = option("in_domain or out_of_domain")
    on_bad_rows: str = option("stop, or drop: leave bad rows out and count them", "stop")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--raw", "directory with train/, dev/ and test/")
    parser.path("--templates", "the topic's templates (TOPIC.yaml)")
    parser.path("--siblings", "templates of topics with the same question template, in order, itself included",
                required=False, many=True)  # fmt: skip
    parser.path("--output", "facts table to write (Parquet)")
    arguments, options = parser.read()

    topic = read_topic_templates(arguments.templates)
    siblings = [read_topic_templates(path) for path in arguments.siblings or ()]
    dropped = check_rows(arguments.raw, topic, options.on_bad_rows)
    table = build_facts(arguments.raw, options.domain, topic, siblings)
    if not len(table):
        raise KnowshiftError(f"{arguments.raw}: topic {topic.topic} has no fact with exactly one answer")
    write_table(arguments.output, table, FACTS, {"topic": topic.topic, "dropped_rows": dropped})
    start_logging().info("%s: %s, %d bad rows dropped", topic.topic, dict(Counter(table["split"].to_pylist())), dropped)


if __name__ == "__main__":
    run(main)
