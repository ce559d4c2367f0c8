"""Statistics of one model's study: intervals, tests, flows, calibration, verdicts on the claims, a recommendation.

    python scripts/analyse_model.py --tables results/NAME/tables --mastery results/NAME/mastery.parquet \
        --divergences results/NAME/runs/*/divergence.parquet --folder results/NAME --output results/NAME/analysis

Reads graded answers and tables; no model is loaded. What each number is: docs/report.md.
"""

import numpy as np
import pandas as pd
from pydantic import Field

from cli.command_line import CommandLine, run
from knowshift.analysis import schemas
from knowshift.analysis.answer_matrix import read_answers
from knowshift.analysis.calibration import tabulate_calibration
from knowshift.analysis.claims import tabulate_claims
from knowshift.analysis.flows import tabulate_fact_outputs, tabulate_flows
from knowshift.analysis.loss_curves import tabulate_loss
from knowshift.analysis.recommendation import recommend, tabulate_strategies
from knowshift.analysis.restoration_tests import tabulate_restorations
from knowshift.analysis.restored_places import tabulate_where
from knowshift.analysis.schemas import ANALYSES
from knowshift.analysis.scores import tabulate_scores, tabulate_scores_by_level
from knowshift.analysis.shifts import measure_shifts, tabulate_shifts
from knowshift.analysis.study import Study
from knowshift.configuration.facts import MatchingRule
from knowshift.configuration.section import Seeded
from knowshift.evaluation.schemas import DIVERGENCE
from knowshift.finetuning.schemas import CELLS
from knowshift.mastery.schemas import MASTERY
from knowshift.runtime.parquet import read_table, write_table


class Options(MatchingRule, Seeded):
    """How answers are graded and estimates are drawn."""

    facts: int = Field(default=2000, gt=0, description="Number of facts per run whose outputs are kept.")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--tables", "directory of the model's tables (Parquet)")
    parser.path("--mastery", "mastery table")
    parser.path("--divergences", "divergence tables of the runs", required=False, many=True)
    parser.add_argument(
        "--folder", required=True, help="the model's folder of results, as it stands in the command that exports"
    )
    parser.path("--output", "directory for the tables (Parquet)")
    arguments, options = parser.read()

    def table(name: str, schema) -> pd.DataFrame:
        return read_table(arguments.tables / f"{name}.parquet", schema).to_pandas()

    columns = ["fact_id", "topic", "level", "question", "object"]
    mastery = read_table(arguments.mastery, MASTERY, columns)
    graded = arguments.tables / "answers.parquet"
    answers = read_answers(graded, options.matching, mastery["fact_id"].to_pylist())
    study = Study(table("cells", CELLS), answers, mastery["level"].to_numpy(), options.seed)
    concentration = table("concentration", schemas.CONCENTRATION)
    places = pd.Index(mastery["fact_id"].to_pylist())
    divergences = {}
    for path in arguments.divergences or ():
        measured = read_table(path, DIVERGENCE)
        divergences[path.parent.name] = pd.Series(
            measured["kl"].to_numpy(), places.get_indexer(measured["fact_id"].to_pylist())
        )
    shifts = measure_shifts(study, divergences)

    made = {
        "scores": tabulate_scores(study),
        "scores_by_level": tabulate_scores_by_level(study),
        "restorations": tabulate_restorations(study, concentration),
        "strategies": tabulate_strategies(study),
        "flows": tabulate_flows(study, np.array(mastery["topic"].to_pylist(), object)),
        "fact_outputs": tabulate_fact_outputs(study, graded, mastery, options.facts),
        "loss_curves": tabulate_loss(study, table("training_loss", schemas.TRAINING_LOSS)),
        "claims": tabulate_claims(study, shifts, concentration),
        "recommendation": recommend(study, arguments.folder),
    }
    made["shifts"], made["correlations"] = tabulate_shifts(study, shifts)
    made["calibration"], made["calibration_errors"] = tabulate_calibration(study)
    where = table("restored_where", schemas.RESTORED_WHERE)
    made["restored_layers"], made["restored_modules"] = tabulate_where(study, where)
    for name, schema in ANALYSES.items():
        write_table(arguments.output / f"{name}.parquet", made[name], schema)


if __name__ == "__main__":
    run(main)
