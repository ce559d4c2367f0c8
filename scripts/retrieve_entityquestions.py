r"""Fetch an archive of raw question files and unpack it, by default EntityQuestions.

    python scripts/retrieve_entityquestions.py --downloads downloads/ --output raw/
    python scripts/retrieve_entityquestions.py --location mine.zip --contents-sha256 null \
        --downloads downloads/ --output raw/

The location may be a URL or a local file. A broken download goes on where it ended. The unpacked files are checked
against --contents-sha256, however the archive was packed; nothing is left of an archive that does not contain them.
"""

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.facts import ENTITYQUESTIONS, Archive, Location


class Options(Archive):
    """Which archive is fetched."""

    location: Location = Field(default=ENTITYQUESTIONS, description="URL or path of the archive (zip).")


def main() -> None:
    """Read the command line, and write the raw files."""
    parser = CommandLine(__doc__, Options)
    parser.new_folder("--downloads", "Folder for the archive, and for the part of it that has come.")
    parser.new_folder("--output", "Folder for the raw files.")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.facts.archive import retrieve
        from knowshift.runtime.progress import start_logging

    digest = retrieve(options.location, arguments.downloads, arguments.output, options.contents_sha256)
    start_logging().info("%s: contents %s", arguments.output, digest)


if __name__ == "__main__":
    run(main)
