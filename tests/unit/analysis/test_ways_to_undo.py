"""Ways to undo compared: on made-up answers, against what follows from them by hand."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from knowshift.analysis.answer_matrix import Answerer, Answers
from knowshift.analysis.study import BASE, Study
from knowshift.analysis.task_scores import Half, TaskScores
from knowshift.analysis.undoing import choose_shares, list_contests, tabulate_rules, tabulate_undoing
from knowshift.analysis.undoing_schemas import UNDOING, UNDOING_RULES, UNDOING_WAYS

LEVELS = np.tile(np.repeat(np.arange(5), 40), 3)  # dev, test, and training facts
KNOWLEDGE = np.where(LEVELS >= 3, "known", "unknown").astype(object)
SEEDS = (1, 2)

# strategy and percent to the shares of known facts, of dev facts and of taught facts answered; None: nothing undone
Truth = Mapping[tuple[str, float] | None, tuple[float, float, float]]
TRUTH: Truth = {
    None: (0.4, 0.5, 1.0),
    ("top", 20.0): (0.6, 0.5, 0.95),
    ("top", 60.0): (0.7, 0.7, 0.4),
    ("top", 100.0): (0.9, 0.4, 0.1),
    ("interpolate", 20.0): (0.7, 0.6, 0.95),
    ("interpolate", 60.0): (0.85, 0.5, 0.6),
}


def make(truth: Truth, taught: bool = True, dev: bool = True) -> Study:
    """A study of one cell and two seeds, in which exactly these shares of the facts are answered."""
    draw = np.random.default_rng(0)
    answers: dict[str, dict[Answerer, Answers]] = {"test": {}, "dev": {}, "training_set": {}}
    sets = {"dev": np.arange(200), "test": np.arange(200, 400), "training_set": np.arange(400, 600)}
    chance = {name: draw.permuted(np.tile(np.arange(40), (5, 1)), axis=1).ravel() / 40 for name in sets}
    models: dict[Answerer, tuple[float, float, float]] = {BASE: (0.9, 0.4, 0.1)}
    for seed in SEEDS:
        for key, shares in truth.items():
            run = f"full-mixed-32-s{seed}"
            models[Answerer(run, key[0], "transformer", key[1]) if key else Answerer(run)] = shares
    for key, (known, on_dev, own) in models.items():
        for name, share in {"test": known, "dev": on_dev, "training_set": own}.items():
            if key != BASE or name != "training_set":
                right = chance[name] < share
                answers[name][key] = Answers(sets[name], right, np.zeros(200, np.float32))
    if not taught:
        del answers["training_set"]
    if not dev:
        del answers["dev"]
    runs = [{"run": f"full-mixed-32-s{seed}", "seed": seed} for seed in SEEDS]
    cells = pd.DataFrame(runs).assign(method="full", data="mixed", size="32", facts=32, state="run")
    return Study(cells, answers, LEVELS, 1)


def tables(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    points, ways = tabulate_undoing(study, KNOWLEDGE)
    assert points.schema.equals(UNDOING) and ways.schema.equals(UNDOING_WAYS)
    return points.to_pandas(), ways.to_pandas()


def test_curves_hold_what_each_share_answers_and_share_their_ends() -> None:
    points, _ = tables(make(TRUTH))
    assert set(points["known"]) == {80} and set(points["seeds"]) == {2}
    for way in ("top", "interpolate"):
        mine = points[points["strategy"] == way].set_index("percent")
        assert list(mine.index) == [0, 20, 60, 100]
        for percent, row in mine.iterrows():
            key = None if percent == 0 else ("top" if percent == 100 else way, percent)
            known, _, taught = TRUTH[key]
            assert row["knowledge"] == pytest.approx(known) and row["taught"] == pytest.approx(taught)
            assert row["knowledge_low"] <= known <= row["knowledge_high"]
            # Who answers more answers all that the others do.
            assert row["kept"] == pytest.approx(0.4) and row["regained"] == pytest.approx(known - 0.4)
    frontier = points[points["frontier"]]
    found = set(zip(frontier["strategy"], frontier["percent"], strict=True))
    assert found == {
        *{("top", 0), ("interpolate", 0), ("top", 100), ("interpolate", 100)},
        *{("interpolate", 20), ("interpolate", 60)},
    }


def test_areas_are_those_of_the_trapezoidal_rule() -> None:
    _, ways = tables(make(TRUTH))
    ways = ways.set_index("strategy")
    for way in ("top", "interpolate"):
        keys = [None, (way, 20.0), (way, 60.0), ("top", 100.0)]
        x, y = np.array([TRUTH[key][2] for key in keys]), np.array([TRUTH[key][0] for key in keys])
        expected = np.trapezoid(y[::-1], x[::-1]) / 0.9
        row = ways.loc[way]
        assert row["area"] == pytest.approx(expected) and row["area_low"] < expected < row["area_high"]
        assert row["points"] == 4 and row["reference"] == "top"
    gap = ways.loc["interpolate", "area"] - ways.loc["top", "area"]
    assert ways.loc["interpolate", "over_reference"] == pytest.approx(gap) and np.isnan(
        ways.loc["top", "over_reference"]
    )
    # Facts are drawn with all answers to them, so the difference is known better than either area.
    widths = ways["over_reference_high"] - ways["over_reference_low"], ways["area_high"] - ways["area_low"]
    assert widths[0]["interpolate"] < widths[1]["interpolate"]


def test_shares_are_chosen_on_dev_and_tested_on_the_same_facts() -> None:
    _, ways = tables(make(TRUTH))
    top, other = (ways.set_index("strategy").loc[way] for way in ("top", "interpolate"))
    # 20 and 0 % keep 90 % of the taught facts; on dev they are equal for top, and 20 % is better for interpolate.
    assert (top["matched_percent"], other["matched_percent"]) == (0, 20)
    assert (top["best_percent"], other["best_percent"]) == (60, 20)
    assert other["matched_gain"] == pytest.approx(0.7 - 0.4) and other["matched_taught"] == pytest.approx(0.95)
    assert other["p"] < 1e-3 and other["p_corrected"] == other["p"] and np.isnan(top["p"])
    assert top["best_accuracy"] == pytest.approx(0.7)


def test_a_way_that_is_no_better_is_not_told_apart() -> None:
    same = {**TRUTH, ("interpolate", 20.0): TRUTH["top", 20.0], ("interpolate", 60.0): TRUTH["top", 60.0]}
    _, ways = tables(make(same))
    row = ways.set_index("strategy").loc["interpolate"]
    assert row["over_reference"] == 0 and row["over_reference_low"] == 0 == row["over_reference_high"]
    assert row["matched_gain"] == 0 and row["p"] == 1


def test_what_was_not_asked_is_null() -> None:
    points, ways = tables(make(TRUTH, taught=False))
    assert points["taught"].isna().all() and points["frontier"].isna().all() and len(points) == 8
    assert ways["area"].isna().all() and ways["matched_percent"].isna().all() and ways["best_percent"].notna().all()
    _, ways = tables(make(TRUTH, dev=False))
    assert ways["area"].notna().all() and ways["best_percent"].isna().all() and ways["p"].isna().all()
    open_ended = {key: shares for key, shares in TRUTH.items() if key != ("top", 100.0)}
    points, ways = tables(make(open_ended))
    assert ways["area"].isna().all() and points["percent"].max() == 60
    for table in tables(make({None: TRUTH[None]})):
        assert table.empty


@pytest.mark.parametrize("with_task", [True, False])
def test_a_model_from_elsewhere_is_compared_by_the_tasks_that_it_keeps(with_task: bool) -> None:
    here = make(TRUTH)
    (kept, other), run = SEEDS, "tuned-bot"
    answers = {
        name: {**given, **{key._replace(run=run): one for key, one in given.items() if key.run.endswith(f"s{kept}")}}
        for name, given in here.answers.items()
        if name != "training_set"
    }
    fine = {None: True, ("top", 20.0): True, ("top", 60.0): True, ("top", 100.0): False, ("interpolate", 20.0): False}
    asked = [key for key in answers["test"] if key != BASE]
    column = [fine.get((key.strategy, key.percent) if key.strategy else None, True) for key in asked]
    half = Half({key: number for number, key in enumerate(asked)}, np.tile(np.array(column, float), (10, 1)), 1)
    task = TaskScores("support", "contains", 0.05, {"dev": half, "test": half})
    runs = [{"run": f"full-mixed-32-s{seed}", "seed": seed, "method": "full", "size": "32"} for seed in (kept, other)]
    cells = pd.DataFrame([*runs, {"run": run, "method": "tuned", "data": "bot"}]).assign(state="run")
    cells = cells.fillna({"data": "mixed"}).assign(facts=32)
    answers["training_set"] = dict(here.answers["training_set"])
    study = Study(cells, answers, LEVELS, 1, [task] if with_task else [])
    points, ways = tables(study)
    own, mine = points[points["method"] == "tuned"], ways[ways["method"] == "tuned"].set_index("strategy")
    assert own["taught"].isna().all() and own["frontier"].isna().all() and own["size"].isna().all() and len(own) == 8
    assert mine["area"].isna().all() and mine["matched_taught"].isna().all()
    assert mine["best_percent"].to_dict() == {"top": 60, "interpolate": 20}
    if with_task:  # best on dev of those that keep the task; of interpolate, 0 and 60 % are equal on dev
        assert mine["matched_percent"].to_dict() == {"top": 60, "interpolate": 0}
        gain, p = mine.loc["interpolate", ["matched_gain", "p"]]
        assert gain == pytest.approx(0.4 - 0.7) and p < 1e-3
    else:
        assert mine["matched_percent"].isna().all() and mine["p"].isna().all()
    # What was fine-tuned here is compared as it would be alone.
    alone = tables(here)[1].drop(columns=["p", "p_corrected"])
    beside = ways[ways["method"] == "full"].drop(columns=["p", "p_corrected"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone, check_dtype=False)


def test_trainings_that_differ_in_one_setting_are_ways_beside_the_strategies() -> None:
    here = make(TRUTH)
    # The models of two stops and of adapters: known facts, dev facts, and taught facts answered.
    otherwise = {"quarter": (0.8, 0.6, 0.5), "half": (0.7, 0.55, 0.95), "lora": (0.9, 0.7, 0.92)}
    answers = {name: dict(given) for name, given in here.answers.items()}
    rows = []
    for method, truth in {"full": None, **otherwise}.items():
        for seed in SEEDS:
            rows.append({"run": f"{method}-mixed-32-s{seed}", "seed": seed, "method": method})
            for name, share in dict(zip(("test", "dev", "training_set"), truth or (), strict=False)).items():
                own = here.answers[name][Answerer(f"full-mixed-32-s{seed}")]
                right = np.random.default_rng(3).permutation(200).argsort() / 200 < share
                answers[name][Answerer(rows[-1]["run"])] = replace(own, correct=right)
    cells = pd.DataFrame(rows).assign(data="mixed", size="32", facts=32, state="run")
    study = Study(cells, answers, LEVELS, 1)
    trainings = {"quarter": "stop_at", "half": "stop_at", "lora": "lora"}
    points, ways = (made.to_pandas() for made in tabulate_undoing(study, KNOWLEDGE, trainings))
    stops = points[points["strategy"] == "stop_at"]
    assert list(stops["variant"].fillna("")) == ["", "quarter", "half"] and list(stops["percent"].isna()) == [0, 1, 1]
    assert list(stops["taught"]) == pytest.approx([1, 0.5, 0.95])
    mine = ways.set_index("strategy").loc[["stop_at", "lora"]]
    # A quarter of the steps teaches half of the facts, so it is no choice at a matched loss; half of them is.
    assert list(mine["matched_variant"]) == ["half", "lora"] and mine["matched_percent"].isna().all()
    assert list(mine["best_variant"]) == ["quarter", "lora"] and mine["p"].notna().all()
    assert mine["area"].isna().all() and mine["over_reference"].isna().all()
    # The strategies are compared as they are without them, but for the family of the correction.
    alone = tables(here)[1].drop(columns=["p", "p_corrected"])
    beside = ways[ways["strategy"].isin(alone["strategy"])].drop(columns=["p", "p_corrected"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(beside, alone, check_dtype=False)


def test_only_trainings_with_all_seeds_of_the_same_cell_are_ways() -> None:
    study, trainings = make(TRUTH), {"half": "stop_at"}
    (one,) = study.conditions
    for other in ({"runs": one.runs[:1], "seeds": one.seeds[:1]}, {"data": "level0"}, {"asked": "64"}):
        study.conditions = [one, replace(one, **{"method": "half", **other})]
        (contest,) = list_contests(study, trainings)
        assert set(contest.ways) == {"top", "interpolate"}
    study.conditions = [one, replace(one, method="half")]
    assert set(list_contests(study, trainings)[0].ways) == {"top", "interpolate", "stop_at"}


def test_ways_are_compared_on_the_runs_that_all_of_them_have() -> None:
    study = make(TRUTH)
    one = study.restorations[0]
    alone = [restored for restored in study.restorations if restored.strategy == "interpolate"]
    study.restorations[study.restorations.index(alone[0])] = type(one)(
        one.condition, "interpolate", "transformer", alone[0].percent, one.runs[:1]
    )
    (contest,) = list_contests(study)
    assert contest.runs == one.runs[:1] and set(contest.ways) == {"top", "interpolate"}


def test_rules_read_weights_alone() -> None:
    shares = pd.DataFrame(
        {"share_without_zeros": [0.7, 0.85, 0.95, 0.99], "share_of_squares": [0.2, 0.5, 0.8, 0.9]},
        index=pd.Index([1.0, 10.0, 20.0, 60.0], name="percent"),
    )
    # Above the diagonal by 0.69, 0.75, 0.75 and 0.39: of equals the first.
    assert choose_shares(shares) == {"knee": 10.0, "holds 90 %": 20.0, "half the norm": 20.0}
    assert choose_shares(shares.iloc[:2]) == {"knee": 10.0, "holds 90 %": None, "half the norm": None}
    assert choose_shares(shares.iloc[:0]) == {"knee": None, "holds 90 %": None, "half the norm": None}


def test_the_regret_of_a_rule_is_against_the_share_that_dev_chooses() -> None:
    study = make(TRUTH)
    rows = [
        {"run": f"full-mixed-32-s{seed}", "region": "transformer", "percent": percent, "share_without_zeros": held,
         "share_of_squares": squares}
        for seed in SEEDS for percent, held, squares in ((20.0, 0.92, 0.5), (60.0, 0.99, 0.9), (80.0, 1.0, 1.0))
    ]  # fmt: skip
    table = tabulate_rules(study, pd.DataFrame(rows))
    assert table.schema.equals(UNDOING_RULES)
    found = table.to_pandas().set_index("rule")
    assert found["percent"].to_dict() == {"knee": 20, "holds 90 %": 20, "half the norm": 60}
    assert set(found["best_percent"]) == {60}
    assert found["regret"].to_dict() == pytest.approx({"knee": 0.1, "holds 90 %": 0.1, "half the norm": 0})
    assert found["accuracy"].to_dict() == pytest.approx({"knee": 0.6, "holds 90 %": 0.6, "half the norm": 0.7})
