"""Tables that come from no answers: what stages cost, and what the paper published."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from knowshift.analysis.costs import read_benchmarks, tabulate_costs, training_speeds
from knowshift.analysis.published import paper_models, read_published

PUBLISHED_FILES = Path(__file__).parents[3] / "resources/published"


def frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


def test_costs_come_from_benchmarks(tmp_path: Path) -> None:
    for name, seconds in {
        "finetune/a.full-mixed-60-s1": 10,
        "finetune/a.b.full-mixed-60-s1": 20,
        "build_facts/P1": 1,
    }.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:10\t-\t{seconds * 2}\n")
    speed = pa.table({"step": [1, 2], "seconds": [1.0, 3.0], "tokens_per_second": [100.0, 20.0]})
    costs = frame(tabulate_costs(read_benchmarks(tmp_path, ["a", "a.b"]), training_speeds([("a", speed)])))
    assert costs["stage"].tolist() == ["build_facts", "finetune", "finetune"]
    assert costs["model"].tolist()[1:] == ["a", "a.b"] and pd.isna(costs["model"][0])
    assert costs["seconds"].tolist() == [1, 10, 20] and costs["memory"].isna().all()
    assert costs["tokens_per_second"][1] == pytest.approx(160 / 4)
    assert len(tabulate_costs(read_benchmarks(tmp_path / "gone", ["a"]), {})) == 0


def test_published_figures_stand_beside_the_models_they_are_of() -> None:
    sources = {"ours": "meta-llama/Meta-Llama-3-8B", "llama-2-7b": None, "other": "someone/Llama-2-7b-hf"}
    ours = paper_models(PUBLISHED_FILES, sources)
    assert ours == {"ours": "LLaMA-3-8B", "llama-2-7b": "LLaMA-2-7B"}
    table = frame(read_published(PUBLISHED_FILES, ours))
    assert set(table["of"].dropna()) == set(ours)
    shares = table[table["source"] != "mastery_distribution"]
    assert shares["value"].between(0, 1).all()
    facts = table.query("source == 'mastery_distribution' and of == 'ours' and set == 'train'")["value"].sum()
    assert facts == 75944  # what study.md counts
