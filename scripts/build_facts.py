r"""Build the facts of one topic, from raw question files or from a table of facts.

    python scripts/build_facts.py --raw resources/facts --templates resources/templates/P36.yaml \
        --domain in_domain --output facts/P36.parquet
    python scripts/build_facts.py --table mine.csv --templates templates/rivers.yaml --domain in_domain \
        --output facts/rivers.parquet

RAW holds `{train,dev,test}/TOPIC.{split}.json`, lists of {"question", "answers"}. TABLE is CSV, TSV, JSON Lines or
Parquet with the columns topic, subject, object and, if wanted, aliases (separated by |), split and question. Kept are
facts with one answer, one per distinct question; what is left out is counted in the table's metadata.
"""

from typing import Literal

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.facts import BuildingRules


class Options(BuildingRules):
    """How the facts are built."""

    domain: Literal["in_domain", "out_of_domain"] = Field(
        description="Whether training sets may draw from the topic (in_domain) or it is only evaluated (out_of_domain)."
    )


def main() -> None:
    """Read the command line, build the facts, and write the table."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--raw", "Folder with train/, dev/ and test/.", required=False)
    parser.file("--table", "Table of facts, instead of --raw.", required=False)
    parser.file("--templates", "The topic's templates (TOPIC.yaml).")
    parser.file(
        "--siblings",
        "Templates of the topics with the same question template, in the order of the configuration, the topic "
        "included.",
        required=False,
        many=True,
    )
    parser.new_file("--output", "Facts table to write (Parquet).")
    parser.exactly_one("--raw", "--table")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.facts.building import build_facts, refuse_bad_rows
        from knowshift.facts.question_files import read_question_files
        from knowshift.facts.schemas import FACTS
        from knowshift.facts.templates import read_topic_templates
        from knowshift.facts.texts import matches_nearly_anything
        from knowshift.facts.user_table import FactTable
        from knowshift.runtime.errors import KnowshiftError
        from knowshift.runtime.parquet import write_table
        from knowshift.runtime.progress import start_logging

    topic = read_topic_templates(arguments.templates)
    group = [read_topic_templates(path) for path in arguments.siblings or [arguments.templates]]
    if arguments.table:
        table, shares = FactTable(arguments.table), options.split_shares.model_dump()
        sources = {member.topic: table.read(member, shares) for member in group}
    else:
        sources = {member.topic: read_question_files(arguments.raw, member) for member in group}
    if options.on_bad_rows == "stop":
        refuse_bad_rows(topic.topic, sources[topic.topic].problems)
    facts, counts = build_facts(topic, options.domain, sources)
    if not len(facts):
        raise KnowshiftError(
            f"{arguments.table or arguments.raw}: topic {topic.topic} has no fact with exactly one answer"
        )
    write_table(arguments.output, facts, FACTS, {"topic": topic.topic, "domain": options.domain, **counts})
    log = start_logging()
    log.info("%s: %s", topic.topic, ", ".join(f"{number:,} {name}" for name, number in counts.items()))
    if common := sorted(set(filter(matches_nearly_anything, facts["object"].to_pylist()))):
        log.warning("%s: nearly any answer holds the object %s", topic.topic, ", ".join(common))


if __name__ == "__main__":
    run(main)
