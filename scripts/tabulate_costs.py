"""Sum up the time and memory that each stage took, and the speed of training, from Snakemake's benchmark files.

    python scripts/tabulate_costs.py --results results --models NAME … --output results/tables/costs.parquet

A stage without benchmark files is left out; nothing is run again to make them.
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.models import MODEL_NAME


def main() -> None:
    """Read the command line, sum up the costs and write them."""
    parser = CommandLine(__doc__)
    parser.folder("--results", "Folder of results; benchmarks/ is in it.")
    parser.words("--models", MODEL_NAME, "Names of the models.")
    parser.new_file("--output", "Table to write (Parquet).")
    arguments, _ = parser.read()
    with quick_imports():
        from knowshift.analysis.costs import read_benchmarks, tabulate_costs, training_speeds
        from knowshift.analysis.schemas import COSTS
        from knowshift.finetuning.schemas import SPEED
        from knowshift.runtime.parquet import read_table, write_table

    jobs = read_benchmarks(arguments.results / "benchmarks", arguments.models)
    speeds = training_speeds(
        (model, read_table(path, SPEED))
        for model in arguments.models
        for path in sorted((arguments.results / model / "runs").glob("*/speed.parquet"))
    )
    write_table(arguments.output, tabulate_costs(jobs, speeds), COSTS)


if __name__ == "__main__":
    run(main)
