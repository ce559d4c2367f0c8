"""Write the difference of two models as a lossless, compressed delta.

python scripts/diff_weights.py --base base/ --tuned checkpoint/ --output delta/
"""

import shutil

from cli.command_line import CommandLine, quick_imports, run
from cli.execution import Stopped
from knowshift.runtime.errors import KnowshiftError


def main() -> None:
    """Read the command line, compare the models, and write the delta."""
    parser = CommandLine(__doc__)
    parser.folder("--base", "Model directory before training.")
    parser.folder("--tuned", "Model directory after training.")
    parser.plain(Stopped)
    parser.new_folder("--output", "Delta directory to write.")
    parser.new_file("--manifest", "File to write a copy of the delta's manifest to.", required=False)
    parser.threads()
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.finetuning.stops import stop_folder
        from knowshift.runtime.artefacts import MANIFEST, check_replaceable, manifest_of, whole_directory
        from knowshift.runtime.progress import start_logging
        from knowshift.weights.deltas import diff_weights

    check_replaceable(arguments.output, [arguments.base, arguments.tuned])
    tuned = stop_folder(arguments.tuned, arguments.stop) if arguments.stop else arguments.tuned
    if not tuned.is_dir():
        raise KnowshiftError(
            f"{arguments.tuned} holds no model after {arguments.stop:g} of the steps, because its training was not"
            f" asked for one; train again with: snakemake --force {arguments.tuned}"
        )
    for directory, declared in {arguments.base: None, tuned: arguments.tuned}.items():
        manifest_of(directory, declared=declared)
    facts: dict = {"kind": "delta"}
    with whole_directory(arguments.output, facts) as directory:
        facts |= diff_weights(arguments.base, tuned, directory, arguments.threads)
    if arguments.manifest:
        shutil.copyfile(arguments.output / MANIFEST, arguments.manifest)
    size = sum(path.stat().st_size for path in arguments.output.glob("delta-*"))
    start_logging().info("delta is %.1f %% of the weights", 100 * size / facts["tuned_bytes"])


if __name__ == "__main__":
    run(main)
