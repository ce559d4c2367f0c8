"""Fetch an archive of raw question files and unpack it.

    python scripts/retrieve_entityquestions.py --location https://nlp.cs.princeton.edu/projects/entity-questions/dataset.zip \
        --downloads downloads/ --output raw/

The location may also be a local file. A broken download goes on where it ended. With --contents-sha256 the unpacked files are
checked, however the archive was packed; nothing is left of an archive that does not hold them.
"""

from dataclasses import dataclass
from pathlib import Path

from cli.command_line import CommandLine, option, run

from knowshift.facts.archive import fetch, unpack
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import start_logging


@dataclass(frozen=True)
class Options:
    location: str = option("URL or path of the zip archive")
    contents_sha256: str | None = option("digest that the contents must have; null takes any", None)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--downloads", "folder for the archive and for what has come of it")
    parser.path("--output", "folder for the raw files")
    arguments, options = parser.read()
    archive = fetch(options.location, arguments.downloads)
    facts: dict = {"kind": "raw questions"}
    try:
        with whole_directory(arguments.output, facts) as directory:
            facts["contents_sha256"] = digest = unpack(archive, directory)
            if options.contents_sha256 not in (None, digest):
                raise KnowshiftError(
                    f"{options.location} has contents of sha256 {digest}, not the {options.contents_sha256} of "
                    "facts.contents_sha256; mend the location, or the digest if the new contents are meant"
                )
    except KnowshiftError:
        if archive != Path(options.location):
            archive.unlink(missing_ok=True)  # so that the next attempt downloads again
        raise
    start_logging().info("%s: contents %s", arguments.output, digest)


if __name__ == "__main__":
    run(main)
