"""Write a restored model as a Hugging Face directory that transformers loads; any two directories of one model will do.

    python scripts/export_model.py --base base/ --tuned checkpoint/ --strategy top --region transformer --percent 20 \
        --output restored/
    python scripts/export_model.py --base base/ --delta delta/ --percent 20 --output restored/
"""

from dataclasses import asdict, dataclass

from cli.command_line import CommandLine, option, run

from knowshift.allowed_values import Strategy
from knowshift.randomness import derive_seed
from knowshift.restoration.export import export_restored
from knowshift.restoration.selection import select
from knowshift.runtime.artefacts import whole_directory
from knowshift.weights.deltas import open_versions


@dataclass(frozen=True)
class Options:
    percent: float = option("share of the region's parameters to restore, 0 to 100")
    strategy: Strategy = option("top (largest relative changes first), bottom, random, or absolute changes", "top")
    region: str = option(
        "transformer, attention, mlp, embedding, all, layers such as 0-3, or a regular expression over tensor names",
        "transformer",
    )
    seed: int = option("the experiment's seed", 1)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.versions()
    parser.path("--output", "model directory to write")
    arguments, options = parser.read()
    versions = open_versions(arguments.base, arguments.tuned, arguments.delta)
    (selection,) = select(
        versions, options.strategy, options.region, [options.percent], derive_seed(options.seed, "restore"),
        arguments.threads,
    )  # fmt: skip
    after = "/".join((arguments.tuned or arguments.delta).parts[-3:])
    about = {"name": arguments.output.name, "after": after, **asdict(options)}
    with whole_directory(arguments.output, {"kind": "model", "restored": asdict(options)}) as directory:
        export_restored(directory, arguments.base, arguments.tuned or arguments.base, versions, selection, about)


if __name__ == "__main__":
    run(main)
