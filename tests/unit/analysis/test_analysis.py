"""What is said of a study, on studies small enough to work out by hand or made so that the answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knowshift.analysis.answer_matrix import Answerer, Answers, Panel, read_answers
from knowshift.analysis.claims import peak_size, tabulate_claims
from knowshift.analysis.flows import tabulate_flows
from knowshift.analysis.loss_curves import tabulate_loss
from knowshift.analysis.recommendation import recommend, tabulate_strategies
from knowshift.analysis.restoration_tests import tabulate_restorations
from knowshift.analysis.restored_locations import tabulate_where
from knowshift.analysis.right_answers import tabulate_right_answers
from knowshift.analysis.scores import tabulate_scores, tabulate_scores_by_level
from knowshift.analysis.shifts import measure_shifts, tabulate_shifts
from knowshift.analysis.study import BASE, Study
from knowshift.evaluation.schemas import ANSWERS
from knowshift.runtime.errors import KnowshiftError
from made_up_studies import make_study

NOTHING_KNOWN = pd.DataFrame(columns=["run", "region", "percent", "share_without_zeros"])
SIZES = (60, 120, 240, 480, 960, 1920)
SEEDS = (1, 2, 3)
KINDS = ("level0", "level1", "level2", "level3", "level4")


def frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


def one_topic(study: Study) -> np.ndarray:
    return np.full(len(study.levels), "t", object)


def curve(*accuracies: float, **shifts: float) -> dict[tuple[str, int, int], float]:
    """Accuracies by size, for data kinds that lie above or below by a constant."""
    return {
        (data, size, seed): value + shift
        for data, shift in shifts.items()
        for size, value in zip(SIZES, accuracies, strict=False)
        for seed in SEEDS
    }


def verdicts(study: Study, kl: dict[int, float] | None = None, undone: pd.DataFrame = NOTHING_KNOWN) -> pd.DataFrame:
    """Claims by number and part; KL by size, a little larger from fact to fact."""
    facts = study.panels["test"].facts
    divergences = {
        run: pd.Series(kl[cell.size] * (1 + 0.001 * np.arange(len(facts))), facts)
        for cell in study.conditions
        if kl
        for run in cell.runs
    }
    table = frame(tabulate_claims(study, measure_shifts(study, divergences), undone))
    return table.assign(part=table["part"].fillna("")).set_index(["claim", "part"])


def test_scores_are_means_over_seeds_with_their_spread() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 60, 2): 0.6}, before=0.3)
    scores = frame(tabulate_scores(study, one_topic(study))).set_index(["method", "set"])
    row = scores.loc[("full", "test")]
    assert row["accuracy"] == pytest.approx(0.5) and row["spread"] == pytest.approx(0.2 / np.sqrt(2))
    assert (row["lowest"], row["highest"]) == pytest.approx((0.4, 0.6)) and row["low"] < 0.5 < row["high"]
    assert row["gain"] == pytest.approx(0.2) and row["gain_low"] > 0.15  # answers are nested: pairs leave little doubt
    assert scores.loc[("pre-trained", "test"), "accuracy"] == pytest.approx(0.3)
    levels = frame(tabulate_scores_by_level(study))
    assert levels["common"].all() and len(levels) == 2 * 2 * 5


def test_an_empty_level_makes_the_headline_null_but_dev_can_still_choose() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 120, 1): 0.6}, levels=(0, 1, 2, 3))
    scores = frame(tabulate_scores(study, one_topic(study)))
    assert scores[["accuracy", "low", "gain"]].isna().all().all()
    assert frame(recommend(study, "r"))["size"].tolist() == [120, 120]
    assert verdicts(study).loc[(1, ""), "verdict"] == "cannot be told"


def test_models_that_were_asked_different_questions_are_not_compared() -> None:
    answers = {
        Answerer(name): Answers(np.array(facts), np.ones(2, bool), np.zeros(2, np.float32))
        for name, facts in {"base": [0, 1], "full-mixed-60-s1": [0, 2]}.items()
    }
    with pytest.raises(KnowshiftError, match="full-mixed-60-s1 was asked other questions"):
        Panel("test", answers, np.zeros(3, int), 1)


def test_restoration_is_tested_on_the_same_questions() -> None:
    study = make_study(
        {("mixed", 60, 1): 0.4}, {("mixed", 60, 1, 5.0): 0.4, ("mixed", 60, 1, 20.0): 0.5, ("mixed", 60, 1, 60.0): 0.1}
    )
    undone = pd.DataFrame(
        [{"run": "full-mixed-60-s1", "region": "transformer", "percent": 20.0, "share_without_zeros": 0.8}]
    )
    table = frame(tabulate_restorations(study, undone))
    rows = table[table["set"] == "test"].set_index("percent")
    assert rows.index.tolist() == [0, 5, 20, 60]
    assert rows["gain"].tolist() == pytest.approx([0, 0, 0.1, -0.3])
    assert rows[["gained", "lost"]].to_numpy().tolist() == [[0, 0], [0, 0], [50, 0], [0, 150]]  # of 500 questions
    assert np.isnan(rows.loc[0, "p"]) and rows.loc[5, "p"] == 1 and rows.loc[20, "p"] < 0.001
    assert rows.loc[20, "p_corrected"] == pytest.approx(
        3 * rows.loc[20, "p"]
    )  # one of the two smallest of three, equal
    assert rows["undone"].tolist()[:3:2] == [0, 0.8] and np.isnan(rows.loc[5, "undone"])


def test_seeds_of_a_fact_stay_together_in_the_permutation() -> None:
    one = make_study({("mixed", 60, 1): 0.40}, {("mixed", 60, 1, 5.0): 0.43})
    five = make_study({("mixed", 60, s): 0.40 for s in range(5)}, {("mixed", 60, s, 5.0): 0.43 for s in range(5)})
    p = [
        frame(tabulate_restorations(study, NOTHING_KNOWN)).query("set == 'test' and percent == 5")["p"].item()
        for study in (one, five)
    ]
    assert p[0] == pytest.approx(p[1], rel=0.5, abs=1e-3)  # five equal answers to a question are no five questions


@pytest.mark.parametrize(
    ("accuracies", "rise", "fall", "verdict"),
    [
        ((0.30, 0.40, 0.50, 0.45, 0.40, 0.35), "holds", "holds", "holds"),
        ((0.30, 0.35, 0.40, 0.45, 0.50, 0.55), "holds", "does not hold", "does not hold"),
        ((0.55, 0.50, 0.45, 0.40, 0.35, 0.30), "does not hold", "holds", "does not hold"),
        ((0.40, 0.40, 0.40, 0.40, 0.40, 0.40), "cannot be told", "cannot be told", "cannot be told"),
        ((0.40, 0.50), "cannot be told", "cannot be told", "cannot be told"),
    ],
    ids=["peak", "rises", "falls", "flat", "two sizes"],
)
def test_claim_1_is_that_accuracy_peaks(accuracies: tuple, rise: str, fall: str, verdict: str) -> None:
    found = verdicts(make_study(curve(*accuracies, level1=0.0, mixed=0.05)))
    assert found.loc[[(1, "a"), (1, "b"), (1, "")], "verdict"].tolist() == [rise, fall, verdict]
    if len(accuracies) == 6:
        assert found.loc[(1, "b"), "value"] == pytest.approx(accuracies[2] - accuracies[5], abs=1e-6)
        assert pd.isna(found.loc[(1, "b"), "note"])  # sizes are the paper's: nothing to say of them
        assert pd.notna(found.loc[(1, "b"), "needed"]) == (fall == "cannot be told")
    else:
        assert "three sizes" in found.loc[(1, ""), "note"]


def test_an_interval_without_width_decides_nothing() -> None:
    tuned = {("mixed", 240, seed): 0.0 for seed in SEEDS}
    found = verdicts(make_study(tuned, {(*key, 5.0): 0.0 for key in tuned}, per_level=4)).loc[(4, "b")]
    assert found["value"] == 0 and np.isnan(found[["low", "high", "p"]].astype(float)).all()
    assert found["verdict"] == "cannot be told" and "needs more questions" in found["needed"]


def test_the_middle_size_is_scaled_to_the_sizes_there_are() -> None:
    assert peak_size(SIZES) == 240
    assert peak_size([10, 30, 80, 160]) == 30  # an eighth of 160 is 20: 30 is nearer than 80
    assert peak_size([100, 300, 2000]) == 300


@pytest.mark.parametrize(
    ("shifts", "parts"),
    [
        ((0.0, 0.10, 0.20, 0.15, 0.05), ["holds", "holds", "holds", "holds"]),
        ((0.0, 0.02, 0.04, 0.03, 0.01), ["does not hold", "does not hold", "holds", "holds"]),
        ((0.1, 0.20, 0.30, 0.25, 0.00), ["does not hold", "holds", "does not hold", "holds"]),
        ((0.0, 0.10, 0.15, 0.15, 0.25), ["does not hold", "holds", "holds", "does not hold"]),
    ],
    ids=["as published", "all alike", "level 4 worst", "level 4 best"],
)
def test_claim_2_is_about_the_level_of_the_data(shifts: tuple, parts: list[str]) -> None:
    by_kind = dict(zip(KINDS, shifts, strict=True))
    found = verdicts(make_study(curve(0.3, 0.3, 0.3, 0.3, 0.3, 0.3, **by_kind), per_level=400))
    assert found.loc[[(2, part) for part in ("", "a", "b", "c")], "verdict"].tolist() == parts


def test_claim_2_cannot_be_told_without_all_levels() -> None:
    found = verdicts(make_study(curve(0.3, 0.3, level0=0.0, level2=0.3)))
    assert found.loc[(2, "a"), "verdict"] == "holds" and "level1, level3, level4 not run" in found.loc[(2, "a"), "note"]
    assert found.loc[(2, ""), "verdict"] == "cannot be told"


def test_claim_3_is_that_divergence_falls_and_rises_and_tracks() -> None:
    falling = curve(0.6, 0.65, 0.7, 0.6, 0.5, 0.4, mixed=0.0)
    kl = dict(zip(SIZES, (0.8, 0.6, 0.5, 0.9, 1.2, 1.5), strict=True))
    study = make_study(falling)
    assert verdicts(study, kl).loc[[(3, ""), (3, "a"), (3, "b"), (3, "c")], "verdict"].tolist() == ["holds"] * 4
    rising = dict(zip(SIZES, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True))
    assert verdicts(study, rising).loc[[(3, ""), (3, "a"), (3, "b")], "verdict"].tolist() == ["does not hold"] * 2 + [
        "holds"
    ]
    assert verdicts(study).loc[(3, ""), "verdict"] == "cannot be told"
    shifts = tabulate_shifts(study, measure_shifts(study, {}))
    assert len(frame(shifts[0])) == 0 and frame(shifts[1])["spearman"].isna().all()


@pytest.fixture
def gains() -> dict[tuple[str, int], float]:
    return {("level0", 240): 0.05, ("level0", 1920): 0.2, ("level2", 240): 0.02, ("level2", 1920): 0.1}


def restored_shares(gains: dict[tuple[str, int], float], **columns: tuple[float, float]) -> pd.DataFrame:
    """The shares of sums that 20 % and 60 % of the parameters hold, the same in every run."""
    return pd.DataFrame(
        [
            {"run": f"full-{data}-{size}-s{seed}", "region": "transformer", "percent": percent}
            | {name: shares[index] for name, shares in columns.items()}
            for data, size in gains
            for seed in SEEDS
            for index, percent in enumerate((20.0, 60.0))
        ]
    )


def test_claim_4_is_that_most_of_the_update_can_be_undone(gains: dict) -> None:
    tuned = {(*key, seed): 0.4 for key in gains for seed in SEEDS}
    restored = {(*key, seed, 20.0): 0.4 + gain for key, gain in gains.items() for seed in SEEDS}
    restored |= {(*key, seed, 60.0): 0.1 for key in gains for seed in SEEDS}  # beyond 90 % of the update
    shares = restored_shares(gains, share_without_zeros=(0.88, 0.97))
    found = verdicts(make_study(tuned, restored), undone=shares)
    assert found.loc[[(4, part) for part in ("", "a", "b", "c", "d")], "verdict"].tolist() == ["holds"] * 5
    assert found.loc[(4, "a"), "value"] == pytest.approx(np.mean(list(gains.values())))
    assert "20 % of parameters, 88 % of the summed relative change, mean" in found.loc[(4, "a"), "compared"]
    harmed = make_study(tuned, dict.fromkeys(restored, 0.3))
    assert verdicts(harmed, undone=shares).loc[(4, ""), "verdict"] == "does not hold"
    assert verdicts(make_study(tuned)).loc[(4, ""), "note"] == "nothing was restored"


def test_the_squared_change_has_a_verdict_of_its_own(gains: dict) -> None:
    tuned = {(*key, seed): 0.4 for key in gains for seed in SEEDS}
    restored = {(*key, seed, 20.0): 0.4 + gain for key, gain in gains.items() for seed in SEEDS}
    restored |= {(*key, seed, 60.0): 0.1 for key in gains for seed in SEEDS}
    shares = restored_shares(gains, share_without_zeros=(0.88, 0.97), share_of_squares=(0.3, 0.7))
    found = verdicts(make_study(tuned, restored), undone=shares)
    assert found.loc[[(4, ""), (4, "a"), (4, "e")], "verdict"].tolist() == ["holds", "holds", "does not hold"]
    assert "60 % of parameters, 70 % of the summed squared change" in found.loc[(4, "e"), "compared"]
    # 30 % of the squared change undone without harm says nothing of 90 %.
    shares = restored_shares(gains, share_without_zeros=(0.88, 0.97), share_of_squares=(0.3, 0.95))
    twin = verdicts(make_study(tuned, restored), undone=shares).loc[(4, "e")]
    assert twin["verdict"] == "cannot be told" and "holds 80 % to 90 % of the summed squared change" in twin["needed"]


def test_the_recommendation_never_looks_at_test() -> None:
    tuned = {("mixed", 60, 1): 0.5, ("mixed", 240, 1): 0.9}
    restored = {("mixed", 60, 1, 5.0): 0.4, ("mixed", 60, 1, 20.0): 0.95}
    dev = {("mixed", 60, 1): 0.5, ("mixed", 240, 1): 0.4, ("mixed", 60, 1, 5.0): 0.7, ("mixed", 60, 1, 20.0): 0.1}
    rows = frame(recommend(make_study(tuned, restored, dev=dev, before=0.3), "out/m"))
    assert rows["set"].tolist() == ["test", "test_ood"] and rows["candidates"].tolist() == [4, 4]
    row = rows.iloc[0]
    assert (row["run"], row["percent"], row["dev_accuracy"]) == ("full-mixed-60-s1", 5, pytest.approx(0.7))
    assert row["accuracy"] == pytest.approx(0.4)  # worse on test than all others, and said so
    assert row["gain_unrestored"] == pytest.approx(-0.1) and row["gain_pretrained"] == pytest.approx(0.1)
    assert row["command"] == "snakemake out/m/exports/full-mixed-60-s1/top-transformer-5/manifest.json"


def test_of_equal_recipes_the_cheaper_is_recommended() -> None:
    study = make_study({("mixed", 60, 1): 0.5, ("mixed", 240, 1): 0.5}, {("mixed", 60, 1, 5.0): 0.5})
    row = frame(recommend(study, "m")).iloc[0]
    assert (row["size"], row["percent"]) == (60, 0) and row["command"].endswith("/top-transformer-0/manifest.json")


def test_without_dev_nothing_is_chosen() -> None:
    study = make_study({("mixed", 60, 1): 0.5, ("level0", 60, 1): 0.4}, {("mixed", 60, 1, 5.0): 0.6}, sets=("test",))
    assert frame(recommend(study, "m"))["reason"].tolist() == ["no dev questions were asked"]
    ways = frame(tabulate_strategies(study)).set_index("strategy")["chosen"].to_dict()
    assert ways == {"pre-trained": "as it is", "mixed": "largest size"}


def answers_of(rows: dict[Answerer, list[tuple[str, str, int, bool]]]) -> pa.Table:
    """(fact, set, level, right) per model, as the table of graded answers."""
    return pa.Table.from_pylist(
        [
            {**key._asdict(), "fact_id": fact, "set": name, "level": level, "output": f"{key.run} {fact}",
             "whole_words": right, "substring": True, "exact": right,
             "gold_logprob": float(np.log(0.8 if right else 0.2)),
             "answer_logprob": float(np.log(0.9 if right else 0.5)), "answer_tokens": 2}
            for key, given in rows.items()
            for fact, name, level, right in given
        ],
        schema=ANSWERS,
    )  # fmt: skip


def test_flows_by_hand(tmp_path: Path) -> None:
    run, half = Answerer("full-mixed-2-s1"), Answerer("full-mixed-2-s1", "top", "transformer", 50.0)
    states = {  # before, after, restored
        "a": (True, True, True),
        "b": (True, False, True),
        "c": (True, False, False),
        "d": (False, True, False),
        "e": (False, False, True),
        "f": (False, False, False),
    }
    rows = {
        key: [(fact, "test", 1, right[index]) for fact, right in states.items()]
        for index, key in enumerate((BASE, run, half))
    }
    rows[BASE] = [*reversed(rows[BASE]), ("g", "train", 0, False)]
    rows[run] = [("g", "training_set", 0, True), *rows[run]]
    rows[half] = [("g", "training_set", 0, False), *rows[half]]
    pq.write_table(answers_of(rows), tmp_path / "answers.parquet", row_group_size=4)
    facts = ["g", *"fedcba"]
    answers = read_answers(tmp_path / "answers.parquet", "whole_words", facts)
    cells = pd.DataFrame(
        [{"run": run.run, "method": "full", "data": "mixed", "size": "2", "facts": 2, "seed": 1, "state": "run"}]
    )
    study = Study(cells, answers, np.array([0] + [1] * 6), 1)
    knowledge = np.array(["known"] * 4 + ["unknown"] * 3, object)
    flows = frame(tabulate_flows(study, np.array(["t"] * 3 + ["u"] * 4, object), knowledge))
    assert flows.groupby("knowledge")["facts"].sum().to_dict() == {"known": 3, "unknown": 3}
    assert flows["facts"].sum() == 6 and (flows["percent"] == 50).all()
    found = flows.set_index(["topic", "before", "after", "restored"])["facts"].to_dict()
    assert found[("u", True, True, True)] == 1 and found[("t", False, False, False)] == 1 and len(found) == 6

    from knowshift.analysis.flows import tabulate_fact_outputs

    mastery = pa.table(
        {
            "fact_id": facts,
            "topic": ["t"] * 7,
            "level": pa.array([0] + [1] * 6, pa.int8()),
            "question": facts,
            "object": facts,
        }
    )
    outputs = frame(tabulate_fact_outputs(study, tmp_path / "answers.parquet", mastery, 100)).set_index("fact_id")
    assert len(outputs) == 6 and outputs.loc["b", ["before", "after", "restored"]].tolist() == [
        "base b",
        f"{run.run} b",
        f"{run.run} b",
    ]
    assert outputs.loc["b", ["before_correct", "after_correct", "restored_correct"]].tolist() == [True, False, True]
    assert outputs.loc["b", "after_probability"] == pytest.approx(0.2)
    assert len(tabulate_fact_outputs(study, tmp_path / "answers.parquet", mastery, 3)) == 3

    restorations = frame(tabulate_restorations(study, NOTHING_KNOWN)).query("set == 'training_set'")
    assert restorations.set_index("percent")["gain"].to_dict() == {0: 0, 50: -1}
    trained = frame(tabulate_scores(study, one_topic(study))).query("set == 'training_set'").iloc[0]
    assert (trained["accuracy"], trained["gain"], trained["questions"]) == (1, 1, 1)


def test_the_probability_of_right_answers_counts_every_question_once() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 60, 2): 0.4}, {("mixed", 60, 1, 5.0): 0.6}, per_level=20)
    bins, gaps = map(frame, tabulate_right_answers(study))
    counts = bins[bins["set"] == "test"].groupby("state")["questions"].sum()
    assert counts.to_dict() == {"before": 100, "after": 200, "restored": 100}
    row = gaps.set_index(["state", "set"]).loc[("after", "test")]
    wrong, right = np.exp(-2.0), np.exp(-0.2)
    assert row["gap"] == pytest.approx(0.6 * wrong + 0.4 * (1 - right)) and row["spread"] == pytest.approx(0)


def test_loss_curves_are_thinned_and_keep_their_mean() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 60, 2): 0.4})
    losses = pd.concat(
        pd.DataFrame(
            {"run": f"full-mixed-60-s{seed}", "step": np.arange(1, 1001), "loss": seed + np.arange(1000) / 1000.0}
        )
        for seed in (1, 2)
    )
    table = frame(tabulate_loss(study, losses))
    assert len(table) == 100 and table["loss"].mean() == pytest.approx(losses["loss"].mean())
    assert table["step"].iloc[0] == 5.5 and (table["highest"] - table["lowest"]).to_numpy() == pytest.approx(1)


def test_where_restored_parameters_lie() -> None:
    study = make_study({("mixed", 60, 1): 0.4}, {("mixed", 60, 1, 5.0): 0.6})
    where = pd.DataFrame(
        [
            {"run": "full-mixed-60-s1", "strategy": "top", "region": "transformer", "percent": 5.0, "layer": layer,
             "module": module, "parameters": 100, "restored": restored}
            for layer, module, restored in ((0, "q", 1), (0, "v", 2), (1, "q", 5), (1, "v", 12))
        ]
    )  # fmt: skip
    layers, modules = map(frame, tabulate_where(study, where))
    assert layers.set_index("layer")["share"].to_dict() == pytest.approx({0: 0.15, 1: 0.85})
    assert modules.set_index("module")["share"].to_dict() == pytest.approx({"q": 0.3, "v": 0.7})
    assert (layers["share_of_parameters"] == 0.5).all() and (layers["parameters"] == 200).all()
