"""What is known, net of format and of noise: baselines, churn, wrong answers, topic mix and topics drawn."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knowshift.analysis.answer_matrix import Answerer, Answers, Panel
from knowshift.analysis.baselines import most_frequent_objects, most_frequent_outcomes
from knowshift.analysis.churn import measure_churn, tabulate_churn
from knowshift.analysis.knowledge import knowledge_of
from knowshift.analysis.level_reliability import tabulate_level_reliability
from knowshift.analysis.scores import references, tabulate_scores
from knowshift.analysis.study import BASE, FEW_SHOT, MOST_FREQUENT, Study
from knowshift.analysis.topic_weights import standardise
from knowshift.analysis.training_topics import tabulate_training_topics
from knowshift.analysis.wrong_answers import KINDS, TopicObjects, edit_distance, tabulate_wrong_answers
from knowshift.evaluation.schemas import ANSWERS, OUTCOMES
from knowshift.facts.schemas import FACTS
from knowshift.mastery.schemas import MASTERY
from made_up_facts import fact
from made_up_studies import make_study


def test_known_is_a_matter_of_mastery_and_its_bounds_are_strict() -> None:
    found = knowledge_of(np.array([0.0, 1 / 12, 0.5, 0.51, 1.0]))
    assert found.tolist() == ["unknown", "partly known", "partly known", "known", "known"]


def test_the_most_frequent_object_is_of_training_facts_of_the_topic() -> None:
    objects = ["b", "a", "b", "a", "c", "c", "c", "c"]
    rows = [fact(n, object=name, split="train" if n < 6 else "test") for n, name in enumerate(objects)]
    rows[4]["also_in_test"] = True
    rows += [fact(8, topic="U", split="test"), fact(9, topic="V", domain="out_of_domain", object="v")]
    facts = pa.Table.from_pylist(rows, schema=FACTS)
    assert most_frequent_objects(facts) == {"T": "a", "V": "v"}  # a and b stand twice each
    outcomes = most_frequent_outcomes(facts, [("f6", "test"), ("f8", "test"), ("f9", "test_ood")])
    assert outcomes.schema.equals(OUTCOMES) and outcomes["output"].to_pylist() == ["a", "", "v"]
    assert np.isnan(outcomes["gold_logprob"].to_numpy()).all()


def test_churn_alone_leaves_no_excess_and_a_fixed_set_of_facts_does() -> None:
    rng = np.random.default_rng(1)
    strata = np.repeat(np.arange(5), 200)
    chance = np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 200)
    inside, simulations = 0, 20
    for _ in range(simulations):
        random = measure_churn(rng.random((1000, 3)) < chance[:, None], strata, rng)
        inside += random["excess_low"] <= 0 <= random["excess_high"]
    assert inside / simulations >= 0.8
    assert random["disagreement"] == pytest.approx((2 * chance * (1 - chance)).mean(), abs=0.03)
    fixed = measure_churn(np.tile(rng.random(1000) < chance, (3, 1)).T, strata, rng)
    assert fixed["disagreement"] == 0 and fixed["in_every_seed"] == pytest.approx(fixed["share"])
    assert fixed["expected_in_every_seed"] == pytest.approx((chance**3).mean(), abs=0.03) and fixed["excess_low"] > 0.1


def test_disagreement_is_the_mean_over_pairs_of_seeds() -> None:
    happened = np.random.default_rng(3).random((40, 4)) < 0.4
    pairs = [(happened[:, a] != happened[:, b]).mean() for a, b in product(range(4), repeat=2) if a < b]
    found = measure_churn(happened, np.zeros(40, int), np.random.default_rng(0))
    assert found["disagreement"] == pytest.approx(np.mean(pairs))
    assert found["in_every_seed"] == pytest.approx(happened.all(1).mean())
    assert "disagreement" not in measure_churn(happened[:, :1], np.zeros(40, int), np.random.default_rng(0))


def test_known_facts_are_lost_and_unknown_ones_learned() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 60, 2): 0.4}, before=0.2)
    knowledge = knowledge_of(study.levels / 4)
    table = tabulate_churn(study, knowledge).to_pandas().query("set == 'test'").set_index("knowledge")
    assert table["event"].to_dict() == {
        "all": "answered", "known": "lost", "partly known": "learned", "unknown": "learned"
    }  # fmt: skip
    assert table.loc["known", "share"] == pytest.approx(0.6) and table.loc["unknown", "share"] == pytest.approx(0.4)
    assert table["facts"].to_dict() == {"all": 500, "known": 200, "partly known": 200, "unknown": 100}
    assert table["answered_before"].to_numpy() == pytest.approx(0.2) and table["answered_few_shot"].isna().all()


def reference(first: str, second: str) -> int:
    """Levenshtein's distance by its definition."""
    if not first or not second:
        return len(first) + len(second)
    same = reference(first[1:], second[1:]) + (first[0] != second[0])
    return min(same, reference(first[1:], second) + 1, reference(first, second[1:]) + 1)


def test_edit_distance_agrees_with_its_definition_up_to_its_limit() -> None:
    rng = np.random.default_rng(5)
    words = ["".join(rng.choice(list("abc"), rng.integers(0, 6))) for _ in range(24)]
    for first, second in product(words, words):
        for limit in (0, 2, 6):
            assert edit_distance(first, second, limit) == min(reference(first, second), limit + 1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "nothing"),
        (" ...\n", "nothing"),
        ("It is Berlin.", "other object"),
        ("the gambia", "other object"),  # with or without its article
        ("Berlin and Pariis", "other object"),  # an object that is named outweighs one that is nearly named
        ("in Pariiss", "other"),  # two letters more, and Paris has only five
        ("in Pariis", "near"),
        ("Sao Tom", "other"),
        ("New Yrok Citi", "other object"),  # Citi is an object here
        ("Lutecia", "near"),  # of an alias, Lutetia
        ("somewhere", "other"),
    ],
)
def test_wrong_answers_are_sorted(answer: str, kind: str) -> None:
    topic = TopicObjects([("Paris", "Lutetia"), ("Berlin",), ("The Gambia",), ("Citi",)])
    assert topic.kind_of(answer, ("Paris", "Lutetia")) == kind


def answers_table(rows: list[tuple[str, float | None, str, bool, str]]) -> pa.Table:
    empty = dict.fromkeys(ANSWERS.names)
    more = {"level": 0, "substring": False, "exact": False, "gold_logprob": 0.0, "set": "test", "answer_tokens": 1}
    rest = {field.name: float("nan") for field in ANSWERS if pa.types.is_floating(field.type) and not field.nullable}
    return pa.Table.from_pylist(
        [
            {**empty, **rest, **more, "run": r, "percent": p, "fact_id": f, "whole_words": c, "output": o}
            for r, p, f, c, o in rows
        ],
        schema=ANSWERS,
    )


def test_answers_are_counted_by_kind_and_add_up(tmp_path: Path) -> None:
    run = "full-mixed-2-s1"
    rows = [("base", None, "f0", False, ""), ("base", None, "f1", False, "oslo")]
    rows += [(run, None, "f0", True, "oslo"), (run, None, "f1", False, "nowhere"), (run, 20.0, "f0", False, "")]
    pq.write_table(answers_table(rows), tmp_path / "answers.parquet")
    some = np.array([0, 1])
    given = {Answerer(name): Answers(some, np.zeros(2, bool), np.zeros(2)) for name in ("base", run)}
    cells = [{"run": run, "method": "full", "data": "mixed", "size": "2", "facts": 2, "seed": 1, "state": "run"}]
    study = Study(pd.DataFrame(cells), {"test": given}, np.array([0, 3]), 1)
    probed = [fact(n, object=name, level=level) for n, (name, level) in enumerate([("Oslo", 0), ("Rome", 3)])]
    mastery = pa.Table.from_pylist([{**row, "mastery": 0.0} for row in probed])
    table = tabulate_wrong_answers(study, tmp_path / "answers.parquet", mastery, "whole_words").to_pandas()
    assert len(table) == 2 * 2 * len(KINDS) and (table.groupby(["method", "level"])["share"].sum() == 1).all()
    said = table.query("answers > 0").set_index(["method", "level"])["kind"].to_dict()
    assert said == {
        ("pre-trained", 0): "nothing", ("pre-trained", 3): "other object", ("full", 0): "right", ("full", 3): "other"
    }  # fmt: skip


def panel_of(correct: np.ndarray, strata: np.ndarray) -> Panel:
    facts = np.arange(len(strata))
    answers = {Answerer(f"m{n}"): Answers(facts, column, np.zeros(len(facts))) for n, column in enumerate(correct.T)}
    return Panel("test", answers, strata, 1)


def test_standardising_agrees_with_weights_by_hand() -> None:
    rng = np.random.default_rng(2)
    strata, topics = rng.integers(0, 5, 400), rng.choice(["a", "b", "c"], 400, p=[0.6, 0.3, 0.1])
    strata[(topics == "c") & (strata == 4)] = 3  # a topic that one level lacks
    correct = rng.random((400, 40)) < 0.5
    found = standardise(panel_of(correct, strata), topics.astype(object), np.random.default_rng(0))
    shares = pd.Series(topics).value_counts(normalize=True)
    for column in (0, 39):
        frame = pd.DataFrame({"level": strata, "topic": topics, "right": correct[:, column]})
        means = frame.groupby(["level", "topic"])["right"].mean().unstack()
        weights = means.notna() * shares[means.columns]
        by_level = (means.fillna(0) * weights).sum(axis=1) / weights.sum(axis=1)
        assert found[column].value == pytest.approx(by_level.mean(), abs=1e-5)
        assert found[column].low < found[column].value < found[column].high


def test_with_one_topic_standardised_is_raw_and_topics_that_levels_share_alike_change_nothing() -> None:
    study = make_study({("mixed", 60, 1): 0.4, ("mixed", 60, 2): 0.6})
    for topics in (np.full(1500, "t", object), np.tile(["a", "b"], 750).astype(object)):
        scores = tabulate_scores(study, topics).to_pandas()
        assert scores["standardised"].to_numpy() == pytest.approx(scores["accuracy"].to_numpy(), abs=1e-5)
        assert scores["standardised_low"].to_numpy() == pytest.approx(scores["low"].to_numpy(), abs=0.03)


def test_an_easy_topic_no_longer_makes_a_level_easy() -> None:
    topics = np.array(["easy"] * 8 + ["hard"] * 2 + ["easy"] * 2 + ["hard"] * 8 + ["easy", "hard"] * 3, object)
    strata = np.repeat([0, 1, 2, 3, 4], [10, 10, 2, 2, 2])
    panel = panel_of((topics == "easy")[:, None], strata)
    assert panel.headline([Answerer("m0")]).value == pytest.approx(0.5)
    assert standardise(panel, topics, np.random.default_rng(1))[0].value == pytest.approx(0.5)
    assert panel.means[0, 0] == 0.8 and panel.means[1, 0] == 0.2


def test_references_are_those_that_were_asked() -> None:
    study = make_study({("mixed", 60, 1): 0.4})
    assert references(study) == {"pre-trained": BASE}
    for key in (FEW_SHOT, MOST_FREQUENT):
        for given in study.answers.values():
            given[key] = given[BASE]  # type: ignore[index]
    more = Study(
        pd.DataFrame([{"run": "full-mixed-60-s1", "method": "full", "data": "mixed", "size": "60", "facts": 60,
                       "seed": 1, "state": "run"}]), study.answers, study.levels, 1,
    )  # fmt: skip
    assert list(references(more)) == ["pre-trained", "few-shot", "most frequent object"]
    scores = tabulate_scores(more, np.full(1500, "t", object)).to_pandas()
    assert (scores.groupby("set")["method"].nunique() == 4).all()


def test_topics_of_training_sets_are_those_of_the_first_facts(tmp_path: Path) -> None:
    study = make_study({("mixed", 3, 1): 0.4, ("mixed", 5, 1): 0.4})
    pq.write_table(pa.table({"topic": ["a", "b", "a", "a", "b", "b"]}), tmp_path / "mixed-s1.parquet")
    table = tabulate_training_topics(study, [tmp_path / "mixed-s1.parquet"]).to_pandas()
    assert table.set_index(["size", "topic"])["facts"].to_dict() == {
        (3, "a"): 2, (3, "b"): 1, (5, "a"): 3, (5, "b"): 2
    }  # fmt: skip


def test_reliability_is_told_for_all_facts_and_for_each_split() -> None:
    rows = [
        fact(n, split=split, mastery=0.5, level=2, draw_level=2, successes=[n % 3, n % 2], first_position=[0, 0])
        | {"half_mastery": [n % 3 / 2, n % 3 / 2], "half_levels": [n % 3, n % 3]}
        for n in range(12)
        for split in ("train", "test")
    ]
    mastery = pa.Table.from_pylist(rows, schema=MASTERY)
    reliability, regression = (table.to_pandas() for table in tabulate_level_reliability(mastery))
    assert reliability["facts"].tolist() == [24, 12, 12] and (reliability["agreement"] == 1).all()
    assert reliability["correlation"].to_numpy() == pytest.approx(1)
    assert regression["split"].isna().sum() == 3 and (regression["expected"] == regression["observed"]).all()
