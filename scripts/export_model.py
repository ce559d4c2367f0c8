r"""Write a restored model as a Hugging Face directory that transformers loads, from any two directories of one model.

    python scripts/export_model.py --base base/ --tuned checkpoint/ --strategy top --region transformer --percent 20 \
        --output restored/
    python scripts/export_model.py --base base/ --delta delta/ --percent 20 --output restored/
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.restoration import RestoredShare, Selecting
from knowshift.configuration.section import Seeded


class Options(Seeded, Selecting, RestoredShare):
    """What is restored."""


def main() -> None:
    """Read the command line, select, and write the model."""
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.others()
    parser.folder(
        "--files",
        "Directory to copy configuration and tokenizer from (default: --tuned, or the base).",
        required=False,
        bare=True,
    )
    parser.new_folder("--output", "Model directory to write.")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.randomness import derive_seed
        from knowshift.restoration.export import export_restored
        from knowshift.restoration.strategies import undo
        from knowshift.runtime.artefacts import check_replaceable, whole_directory
        from knowshift.weights.deltas import open_others, open_versions

    read = [arguments.base, arguments.tuned, arguments.delta, arguments.files, *(arguments.others or [])]
    inputs = [path for path in read if path]
    check_replaceable(arguments.output, inputs)
    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    seed = derive_seed(options.seed, "restore")
    beside = open_others(arguments.base, arguments.others or [])
    chosen = (options.strategy, options.region, [options.percent], seed, arguments.threads)
    (undoing,) = undo(versions, *chosen, others=beside)
    after = "/".join((arguments.tuned or arguments.delta).parts[-3:])
    about = {"name": arguments.output.name, "after": after, **options.model_dump()}
    manifest = {"kind": "model", "restored": options.model_dump()}
    with whole_directory(arguments.output, manifest, inputs) as directory:
        files = arguments.files or arguments.tuned or arguments.base
        export_restored(directory, arguments.base, files, versions, undoing, about)


if __name__ == "__main__":
    run(main)
