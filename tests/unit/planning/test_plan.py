"""What an experiment will take, counted by hand: sequences, tokens, GPU-seconds, bytes, parameters."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import planned
from knowshift.configuration import checking, sections
from knowshift.planning.accelerators import ACCELERATORS, generating_seconds, starting_seconds, training_seconds
from knowshift.planning.disk import ANSWER_BYTES
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.gpu_work import DELTA_BYTES, RuleWork
from knowshift.planning.inventory import Inventory
from knowshift.planning.plan import Plan, make_plan
from knowshift.planning.planned_model import ModelSize, TaskSize
from knowshift.runtime.errors import KnowshiftError

REPOSITORY = Path(__file__).parents[3]


def paper() -> sections.Configuration:
    return checking.check(yaml.safe_load((REPOSITORY / "configs/paper.yaml").read_text()), REPOSITORY)


SMALL = {"train": 100, "dev": 10, "test": 20}


def small_plan(models: Mapping[str, ModelSize], others: Mapping[str, Any] | None = None, **finetuning) -> Plan:
    """The plan of one topic in each domain, with other training settings or whole other sections."""
    topics = {
        "a": TopicSize("in_domain", SMALL, 100, completion=10, question=20, answer=5),
        "b": TopicSize("out_of_domain", {"dev": 10, "test": 20}, 0, completion=10, question=20, answer=5),
    }
    raw = {
        "models": {name: {"source": {"hub": f"x/{name}", "revision": "0" * 40}} for name in models},
        "facts": {"source": "archive", "in_domain": ["a"], "out_of_domain": ["b"]},
        "mastery": {"templates": 2, "samples": 3, "max_new_tokens": 4, "tokens_per_pass": 8, "dtype": "bfloat16"},
        "finetuning": {"data": ["level0", "mixed"], "sizes": [16, 50, "all"], "seeds": [1, 2], **finetuning},
        "evaluation": {"per_level": {"test": 3, "test_ood": None}, "training_set": 10, "max_new_tokens": 5},
        "restoration": [{"data": ["mixed"], "sizes": [16], "percents": [5, 20]}],
        **(others or {}),
    }
    experiment = sections.Configuration.model_validate(raw)
    return make_plan(experiment, topics, models, ACCELERATORS["a100"])


def test_tasks_are_asked_of_the_base_of_every_cell_and_of_restored_models_in_the_usual_format() -> None:
    arm = {"data": ["mixed"], "sizes": [16], "percents": [5, 20], "more_dtypes": ["bfloat16"]}
    task = {"questions": "t.jsonl"}
    sizes = [TaskSize(40, 400, 640), TaskSize(10, 300, 10)]
    plain, tasked = ModelSize(1e9, 2e9, {}, 1000), ModelSize(1e9, 2e9, {}, 1000, sizes)
    before = small_plan({"m": plain}, {"restoration": [arm]})
    tasks = [{**task, "name": "a"}, {**task, "name": "b", "metric": "loglikelihood"}]
    result = small_plan({"m": tasked}, {"restoration": [arm], "tasks": tasks})
    new, old = ({item.rule: item for item in plan.work} for plan in (result, before))
    cells, restored = result.cells, before.jobs["keep_restored"] * 2 // 5  # of 2 shares, and 3 in the other format
    assert result.jobs["evaluate_base_tasks"] == new["evaluate_base_tasks"].jobs == 2
    assert result.jobs["evaluate_tasks"] == new["evaluate_tasks"].jobs == 2 * cells
    assert result.jobs["keep_restored_task"] == 2 * restored and before.jobs["keep_restored_task"] == 0
    for rule, models in {"evaluate_base_tasks": 1, "evaluate_tasks": cells, "evaluate_restored": restored}.items():
        earlier = old.get(rule, RuleWork(rule, "m", 0))
        for name, amount in {"completions": 50, "read": 700, "written": 650}.items():
            assert getattr(new[rule], name) - getattr(earlier, name) == pytest.approx(models * amount)
    assert new["evaluate_restored"].jobs == old["evaluate_restored"].jobs
    assert new["evaluate_restored"].hours > old["evaluate_restored"].hours


def test_a_number_format_is_an_arm_of_its_own_and_a_chat_model_has_a_token_limit_of_its_own() -> None:
    chat = {"source": {"hub": "x/chat", "revision": "0" * 40}, "chat": {"max_new_tokens": 50}}
    model = {"source": {"hub": "x/m", "revision": "0" * 40}, "instruct": chat}
    arm = {"data": ["mixed"], "sizes": [16], "percents": [5, 20], "more_dtypes": ["bfloat16"]}
    size = {"m": ModelSize(1e9, 2e9, {}, 1000)}
    plain = small_plan(size)
    result = small_plan(size, {"models": {"m": model}, "restoration": [arm]})
    before, work = ({item.rule: item for item in each.work} for each in (plain, result))
    runs, models = plain.jobs["evaluate_restored"], plain.jobs["keep_restored"]
    assert result.jobs["evaluate_restored"] == work["evaluate_restored"].jobs == 2 * runs
    assert result.jobs["keep_restored"] == models + 3 * runs  # and the models with nothing restored
    assert work["evaluate"] == before["evaluate"]
    asked = work["evaluate_instruct"]
    assert asked.completions > 0 and asked.written == asked.completions * 50


def test_sequences_and_tokens_are_counted() -> None:
    levels = {"drawable": [10, 20, 30, 20, 20], "test": [2, 4, 4, 5, 5], "test_ood": [4] * 5}
    result = small_plan({"m": ModelSize(1e9, 2e9, levels, 1000)})
    assert (result.cells, result.infeasible) == (1 + 5, 4)  # level 0 has 10 facts: of it only all of them
    work = {item.rule: item for item in result.work}
    facts = 100 + 10 + 20 + 10 + 20
    assert work["probe_mastery"].completions == facts * 2 * 3
    assert work["probe_mastery"].read == facts * 2 * 10 and work["probe_mastery"].written == facts * 2 * 3 * 4
    trained = 10 + 2 * 16 + 2 * 50 + 100
    assert work["finetune (full)"].read == trained * (20 + 5 + 1)
    held_out = (2 + 3 + 3 + 3 + 3) + 20
    assert work["evaluate_base"].completions == 2 * held_out + 100  # with examples and without, and all training facts
    assert work["evaluate_base"].read == (2 * held_out + 100) * (20 + 5)
    answers = sum(work[rule].completions for rule in ("evaluate_base", "evaluate", "evaluate_restored"))
    assert result.disk["answers"] == answers * ANSWER_BYTES + 3 * 1000 * 4  # logits of three well-known facts
    assert work["evaluate"].completions == 6 * held_out + 6 * 10
    assert work["evaluate_restored"].completions == 2 * 2 * (held_out + 10) and work["evaluate_restored"].jobs == 2
    assert work["evaluate"].written == work["evaluate"].completions * 5
    assert result.disk["deltas"] == 6 * 1e9 * DELTA_BYTES and result.disk["models"] == 2e9


def test_facts_that_are_trained_along_are_steps_and_an_order_of_each_seed() -> None:
    """Of 100 facts 20 are of level 3, and 20 of level 4; mixed training sets teach some of them already."""
    levels = {"drawable": [10, 20, 30, 20, 20], "test": [2, 4, 4, 5, 5], "test_ood": [4] * 5}
    plain, replayed = (
        small_plan({"m": ModelSize(1e9, 2e9, levels, 1000)}, replay=replay, epochs=2) for replay in (0, 0.5)
    )
    work = [{item.rule: item for item in plan.work} for plan in (plain, replayed)]
    # level 0: all 10 with 5. Mixed: 16 with 8, 50 with 20 (half of the 40 are taught), and all 100 with none.
    trained = [10 + 2 * (16 + 50) + 100, 10 + 2 * (16 + 50) + 100 + 5 + 2 * (8 + 20)]
    assert [each["finetune (full)"].read for each in work] == [2 * examples * (20 + 5 + 1) for examples in trained]
    assert replayed.jobs["draw_order"] == plain.jobs["draw_order"] + 2
    assert work[0]["evaluate"] == work[1]["evaluate"]  # models are asked what they were taught alone
    assert work[0]["finetune (full)"].hours < work[1]["finetune (full)"].hours


def test_only_kept_deltas_stay_on_disk_and_unknown_levels_are_said() -> None:
    every = small_plan({"m": ModelSize(1e9, 2e9, {})})
    some = small_plan({"m": ModelSize(1e9, 2e9, {})}, keep_deltas="restored")
    assert every.cells == 10 and every.levels_unknown == ["m"]
    assert some.disk["deltas"] == every.disk["deltas"] * 2 / 10  # 16 mixed facts, two seeds
    assert (some.jobs["keep_delta"], some.jobs["diff_weights"], every.jobs["diff_weights"]) == (2, 8, 10)


def test_all_that_is_restored_of_a_region_is_one_job_and_every_model_counts() -> None:
    entry = {"data": ["mixed"], "sizes": [16]}
    ways = [{**entry, "strategy": "top", "percents": [5, 20]}, {**entry, "strategy": "low_rank", "percents": [20]}]
    size = {"m": ModelSize(1e9, 2e9, {})}
    one, both, apart = (
        small_plan(size, {"restoration": [ways[0], *more]}) for more in ([], ways[1:], [{**ways[1], "region": "mlp"}])
    )
    jobs, models = one.jobs["evaluate_restored"], one.jobs["keep_restored"]
    assert (both.jobs["evaluate_restored"], apart.jobs["evaluate_restored"]) == (jobs, 2 * jobs)
    assert both.jobs["keep_restored"] == apart.jobs["keep_restored"] == models * 3 // 2
    work = [next(item for item in plan.work if item.rule == "evaluate_restored") for plan in (one, both, apart)]
    assert [item.jobs for item in work] == [jobs, jobs, 2 * jobs]
    assert work[1].completions == work[2].completions == work[0].completions * 3 / 2
    assert work[0].hours < work[1].hours < work[2].hours  # a model is read once more for the other region


def test_a_strategy_that_compares_seeds_keeps_the_deltas_that_it_reads() -> None:
    entry = {"data": ["mixed"], "seeds": [1], "percents": [5]}
    kept = {}
    for strategy in ("smallest", "sign_agreeing"):
        others = {"restoration": [{**entry, "strategy": strategy}], "exports": []}
        plan = small_plan({"m": ModelSize(1e9, 2e9, {})}, others, keep_deltas="restored")
        kept[strategy] = (plan.jobs["keep_delta"], plan.jobs["keep_restored"])
    assert kept == {
        "smallest": (3, 3),
        "sign_agreeing": (4, 2),
    }  # all facts of a kind are trained on with one seed only


def test_cells_that_stop_early_cost_a_delta_and_no_training() -> None:
    size, stops = ModelSize(1e9, 2e9, {}), {"half": {"method": "full", "stop_at": 0.5}}
    stops["third"] = {"method": "full", "stop_at": 0.3}
    plain = small_plan({"m": size})
    beside = small_plan({"m": size}, methods=["full", "half", "third"], variants=stops)
    alone = small_plan({"m": size}, methods=["half"], variants=stops)
    for plan, cells, kept in ((beside, 30, 2), (alone, 10, 1)):
        assert (plan.cells, plan.jobs["finetune"], plan.jobs["draw_order"]) == (cells, 10, 4)
        assert plan.jobs["diff_weights"] == plan.jobs["evaluate"] == plan.jobs["measure_changes"] == cells
        assert plan.disk["deltas"] == cells * 1e9 * DELTA_BYTES
        assert plan.temporary == plain.temporary + kept * 4e9
        training = [[work for work in one.work if work.rule.startswith("finetune")] for one in (plan, plain)]
        assert training[0] == training[1] and len(training[0]) == 1
    export = {"exports": [{"model": "m", "run": "third-level0-16-s1", "percent": 20}]}
    exported = small_plan({"m": size}, export, methods=["half"], variants=stops)
    assert (exported.jobs["finetune"], exported.jobs["diff_weights"]) == (10, 11)


def test_a_kind_of_data_may_have_fewer_sizes() -> None:
    plan = small_plan({"m": ModelSize(1e9, 2e9, {})}, data_sizes={"level0": [50]})
    assert plan.cells == 2 + 5 and plan.jobs["finetune"] == 7


def test_the_roofline_by_hand() -> None:
    a100 = ACCELERATORS["a100"]
    # One row a pass: memory bounds. 2e9 bytes at 0.6 x 2.039e12 a second, 100 times.
    assert generating_seconds(1e9, 0, 100, 1, "bfloat16", a100) == pytest.approx(100 * 2e9 / (0.6 * 2.039e12))
    # Many rows: arithmetic bounds. 2 operations per parameter and token, at 0.4 x 312e12 a second.
    assert generating_seconds(1e9, 50, 4096, 4096, "bfloat16", a100) == pytest.approx(2e9 * 4146 / (0.4 * 312e12))
    one = training_seconds(1e9, 1000, 5, "full", "adamw", "bfloat16", 1, a100)
    assert one == pytest.approx(6e12 / (0.4 * 312e12) + 5 * 60e9 / (0.6 * 2.039e12))
    pulled = training_seconds(1e9, 1000, 5, "full", "adamw", "bfloat16", 1, a100, pulled=True)
    assert pulled == pytest.approx(one + 5 * 24e9 / (0.6 * 2.039e12))
    # Both GPUs wait for weights and gradients to travel.
    two = training_seconds(1e9, 1000, 5, "full", "adamw", "bfloat16", 2, a100)
    assert two == pytest.approx(one + 5 * 2 * 12e9 / (0.6 * 300e9))
    assert starting_seconds(3, 2, 4e9) == 3 * 2 * 62


def test_published_counts_give_the_papers_totals() -> None:
    topics = Inventory(paper(), REPOSITORY).topics()
    total = {
        (domain, split): sum(topic.facts.get(split, 0) for topic in topics.values() if topic.domain == domain)
        for domain in ("in_domain", "out_of_domain")
        for split in ("train", "test")
    }
    assert total == {
        ("in_domain", "train"): 75_944,
        ("in_domain", "test"): 9_555,
        ("out_of_domain", "train"): 0,
        ("out_of_domain", "test"): 11_613,
    }
    assert sum(topic.drawable for topic in topics.values() if topic.domain == "in_domain") == 75_944 - 133
    levels = planned.published_levels()
    assert all(sum(counts["train"]) == 75_944 and sum(counts["test"]) == 9_555 for counts in levels.values())


def test_parameters_of_the_papers_models_are_those_their_vendor_states() -> None:
    models = Inventory(paper(), REPOSITORY).models({})
    assert {name: model.parameters for name, model in models.items()} == {
        "llama-2-7b": 6_738_415_616,
        "llama-2-13b": 13_015_864_320,
        "llama-2-70b": 68_976_648_192,
        "llama-3-8b": 8_030_261_248,
        "llama-3-70b": 70_553_706_496,
    }


def test_models_are_counted_where_they_lie_else_by_their_name_else_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    entries = {
        "here": SimpleNamespace(source=SimpleNamespace(directory=str(tiny_model))),
        "named": SimpleNamespace(source=SimpleNamespace(hub="Qwen/Qwen3-1.7B-Base")),
        "silent": SimpleNamespace(source=SimpleNamespace(hub="x/y")),
    }
    facts = SimpleNamespace(source="folder")
    asked = SimpleNamespace(results=str(tmp_path), models=entries, facts=facts, tasks=[])
    known = Inventory(asked, REPOSITORY)
    with pytest.raises(KnowshiftError, match="--parameters"):
        known.models({})
    models = known.models({"silent": 5e8})
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert models["here"].parameters == sum(parameter.numel() for parameter in weights.parameters())
    assert models["named"].parameters == 1.7e9 and models["silent"].parameters == 5e8


def test_the_plan_is_printed_for_people_and_for_machines(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(planned.configuration()))
    command = [sys.executable, str(REPOSITORY / "scripts/plan.py"), "--config", str(tmp_path / "experiment.yaml")]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    content = json.loads(done.stdout)
    assert content["jobs"]["finetune"] == 12 and content["jobs"]["keep_restored"] == 21
    assert content["gpu_hours"] == pytest.approx(sum(item["hours"] for item in content["work"]))
    assert content["bytes_at_peak"] > content["bytes_at_end"] == sum(content["disk"].values())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "12 fine-tuned models" in done.stdout and "GPU-hours" in done.stdout and "at peak" in done.stdout
    done = subprocess.run([*command[:-1], "no.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: no.yaml does not exist")
