# The jobs and files of an experiment whose mastery is known, and nothing else: no parameters, no checks, no digests, no
# resources. What planning costs beyond this is knowshift's.
from itertools import product

RESULTS = config["results"]
ROOT = config["root"]
FACTS, GRID = config["facts"], config["finetuning"]
TOPICS = [*FACTS["in_domain"], *FACTS["out_of_domain"]]
UNITS = [f"{t}.{s}" for t in FACTS["in_domain"] for s in ("train", "dev", "test")]
UNITS += [f"{t}.{s}" for t in FACTS["out_of_domain"] for s in ("dev", "test")]
MODELS = list(config["models"])
CELLS = [
    (method, data, size, seed)
    for method in GRID["methods"]
    for data in GRID["method_data"].get(method, GRID["data"])
    for size in GRID.get("data_sizes", {}).get(data, GRID["sizes"])
    for seed in (GRID["seeds"][:1] if size == "all" else GRID["seeds"])
]
RUNS = [f"{method}-{data}-{size}-s{seed}" for method, data, size, seed in CELLS]
ORDERS = list(dict.fromkeys(f"{data}-s{seed}" for _, data, _, seed in CELLS))
RESTORED = {model: {} for model in MODELS}  # run to (region, percent)
for entry, model in product(config["restoration"], MODELS):
    for run, (method, data, size, seed) in zip(RUNS, CELLS):
        if model in entry["models"] and method in entry["methods"] and data in entry["data"] and size in entry["sizes"]:
            RESTORED[model].setdefault(run, []).extend(
                (entry.get("region", "transformer"), p) for p in entry["percents"]
            )
TABLES = [
    "accuracy",
    "accuracy_by_level",
    "cells",
    "concentration",
    "divergence",
    "mastery",
    "precision",
    "restored",
    "restored_where",
    "training_accuracy",
    "training_loss",
]
FIGURES = [
    "mastery",
    "level_regression",
    "accuracy_by_size",
    "accuracy_by_level",
    "training_accuracy",
    "flow",
    "flow_topics",
    "churn",
    "wrong_answers",
    "divergence",
    "correlation",
    "right_answer",
    "confidence",
    "concentration",
    "restored",
    "restored_where",
    "restored_blocks",
    "strategies",
    "loss",
    "costs",
]
PRINTED = [
    "mastery_levels",
    "mastery_topics",
    "level_reliability",
    "level_regression",
    "training_topics",
    "accuracy",
    "accuracy_levels",
    "churn",
    "wrong_answers",
    "level4_and_kl",
    "correlation",
    "right_answer",
    "confidence",
    "concentration",
    "visible",
    "precision",
    "restored",
    "restored_training",
    "restored_by_layer",
    "restored_by_module",
    "restored_blocks",
    "recommendation",
    "strategies",
    "claims",
    "costs",
]
PUBLISHED = [
    "accuracy_1920",
    "entityquestions",
    "mastery_distribution",
    "models",
    "restored_accuracy",
    "restored_layer_blocks",
    "restored_share_by_layer",
    "restored_share_by_module",
    "restored_train_accuracy",
    "shapes",
    "strategies",
    "update_concentration",
]
ANALYSES = [
    "scores",
    "scores_by_level",
    "shifts",
    "correlations",
    "restorations",
    "strategies",
    "restored_layers",
    "restored_modules",
    "flows",
    "churn",
    "wrong_answers",
    "training_topics",
    "level_reliability",
    "level_regression",
    "fact_outputs",
    "right_answer_bins",
    "right_answer_gaps",
    "confidence_bins",
    "confidence_errors",
    "loss_curves",
    "claims",
    "recommendation",
]


def of_runs(name):
    """Make an input function for one file of every run of a model."""
    return lambda wc: [f"{RESULTS}/{wc.model}/runs/{run}/{name}" for run in RUNS]


def order_of(wc):
    """Return the path of the order that a run takes its facts from."""
    method, data, size, seed = wc.run.split("-")
    return f"{RESULTS}/{wc.model}/orders/{data}-{seed}.parquet"


wildcard_constraints:
    model="|".join(MODELS),
    topic=r"\w+",
    split="train|dev|test",
    data=r"level[0-4]|mixed",
    run=r"[a-z]+-(level[0-4]|mixed)-(\d+|all)-s\d+",
    seed=r"\d+",
    region=r"\w+|\d+-\d+",
    percent=r"\d+",


rule all:
    input:
        f"{RESULTS}/report.html",
        f"{RESULTS}/tables/facts.parquet",
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=[*TABLES, *ANALYSES]),
        expand(f"{RESULTS}/figures/{{figure}}.{{kind}}", figure=FIGURES, kind=["vl.json", "svg", "png"]),
        expand(f"{RESULTS}/{{model}}/tables/answers.parquet", model=MODELS),


rule retrieve_entityquestions:
    output:
        f"{RESULTS}/raw/manifest.json",
    shell:
        "true"


rule build_facts:
    input:
        f"{RESULTS}/raw/manifest.json",
        f"{ROOT}/resources/templates/{{topic}}.yaml",
    output:
        f"{RESULTS}/facts/{{topic}}.parquet",
    shell:
        "true"


rule resolve_model:
    output:
        f"{RESULTS}/{{model}}/base/manifest.json",
    shell:
        "true"


rule resolve_instruct:
    output:
        f"{RESULTS}/{{model}}/instruct/model/manifest.json",
    shell:
        "true"


rule probe_mastery:
    input:
        f"{RESULTS}/facts/{{topic}}.parquet",
        f"{ROOT}/resources/templates/{{topic}}.yaml",
        f"{RESULTS}/{{model}}/base/manifest.json",
    output:
        f"{RESULTS}/{{model}}/completions/{{topic}}.{{split}}.parquet",
    shell:
        "true"


rule grade_mastery:
    input:
        expand(f"{RESULTS}/facts/{{topic}}.parquet", topic=TOPICS),
        expand(f"{RESULTS}/{{{{model}}}}/completions/{{unit}}.parquet", unit=UNITS),
        f"{ROOT}/resources/synonyms.csv",
    output:
        f"{RESULTS}/{{model}}/mastery.parquet",
    shell:
        "true"


rule count_levels:
    input:
        f"{RESULTS}/{{model}}/mastery.parquet",
    output:
        f"{RESULTS}/{{model}}/levels.parquet",
    shell:
        "true"


rule evaluate_base:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/mastery.parquet",
        expand(f"{ROOT}/resources/templates/{{topic}}.yaml", topic=TOPICS),
        f"{ROOT}/resources/prompt.yaml",
    output:
        f"{RESULTS}/{{model}}/base_evaluation/outcomes.parquet",
        f"{RESULTS}/{{model}}/base_evaluation/few_shot.parquet",
        f"{RESULTS}/{{model}}/base_evaluation/logits.parquet",
    shell:
        "true"


rule evaluate_instruct:
    input:
        f"{RESULTS}/{{model}}/instruct/model/manifest.json",
        f"{RESULTS}/{{model}}/mastery.parquet",
        f"{ROOT}/resources/prompt.yaml",
    output:
        f"{RESULTS}/{{model}}/instruct/outcomes.parquet",
    shell:
        "true"


rule draw_order:
    input:
        f"{RESULTS}/{{model}}/mastery.parquet",
    output:
        f"{RESULTS}/{{model}}/orders/{{data}}-s{{seed}}.parquet",
    shell:
        "true"


rule finetune:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        order_of,
        f"{ROOT}/resources/prompt.yaml",
    output:
        directory(f"{RESULTS}/{{model}}/runs/{{run}}/checkpoint"),
        f"{RESULTS}/{{model}}/runs/{{run}}/steps.parquet",
        f"{RESULTS}/{{model}}/runs/{{run}}/speed.parquet",
    shell:
        "true"


rule diff_weights:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/runs/{{run}}/checkpoint",
    output:
        directory(f"{RESULTS}/{{model}}/runs/{{run}}/delta"),
        f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
    shell:
        "true"


rule measure_changes:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
    output:
        f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.histogram.parquet",
        f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.tensors.parquet",
    shell:
        "true"


rule evaluate:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
        f"{RESULTS}/{{model}}/mastery.parquet",
        order_of,
        f"{ROOT}/resources/prompt.yaml",
    output:
        f"{RESULTS}/{{model}}/runs/{{run}}/outcomes.parquet",
    shell:
        "true"


rule measure_divergence:
    input:
        f"{RESULTS}/{{model}}/runs/{{run}}/outcomes.parquet",
        f"{RESULTS}/{{model}}/base_evaluation/logits.parquet",
    output:
        f"{RESULTS}/{{model}}/runs/{{run}}/divergence.parquet",
    shell:
        "true"


rule evaluate_restored:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
        f"{RESULTS}/{{model}}/mastery.parquet",
        order_of,
        f"{ROOT}/resources/prompt.yaml",
        f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.histogram.parquet",
    output:
        temp(directory(f"{RESULTS}/{{model}}/runs/{{run}}/restored/{{region}}.shares")),
    shell:
        "true"


rule keep_restored:
    input:
        f"{RESULTS}/{{model}}/base/manifest.json",
        f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
        f"{RESULTS}/{{model}}/mastery.parquet",
        order_of,
        f"{ROOT}/resources/prompt.yaml",
        f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.histogram.parquet",
        f"{RESULTS}/{{model}}/runs/{{run}}/restored/{{region}}.shares",
    output:
        f"{RESULTS}/{{model}}/runs/{{run}}/restored/top-{{region}}-{{percent}}.parquet",
        f"{RESULTS}/{{model}}/runs/{{run}}/restored/top-{{region}}-{{percent}}.selection.parquet",
    shell:
        "true"


rule tabulate_model:
    input:
        f"{RESULTS}/{{model}}/mastery.parquet",
        f"{RESULTS}/{{model}}/levels.parquet",
        f"{RESULTS}/{{model}}/base_evaluation/outcomes.parquet",
        f"{RESULTS}/{{model}}/base_evaluation/few_shot.parquet",
        expand(f"{RESULTS}/facts/{{topic}}.parquet", topic=TOPICS),
        f"{RESULTS}/{{model}}/instruct/outcomes.parquet",
        of_runs("outcomes.parquet"),
        of_runs("divergence.parquet"),
        of_runs("steps.parquet"),
        of_runs("changes/transformer.histogram.parquet"),
        lambda wc: [
            f"{RESULTS}/{wc.model}/runs/{run}/restored/top-{region}-{percent}.parquet"
            for run, parts in RESTORED[wc.model].items()
            for region, percent in parts
        ],
        f"{ROOT}/resources/synonyms.csv",
    output:
        expand(f"{RESULTS}/{{{{model}}}}/tables/{{table}}.parquet", table=[*TABLES, "answers"]),
    shell:
        "true"


rule analyse_model:
    input:
        rules.tabulate_model.output,
        f"{RESULTS}/{{model}}/mastery.parquet",
        of_runs("divergence.parquet"),
        lambda wc: [f"{RESULTS}/{wc.model}/orders/{order}.parquet" for order in ORDERS],
    output:
        expand(f"{RESULTS}/{{{{model}}}}/analysis/{{table}}.parquet", table=ANALYSES),
    shell:
        "true"


rule join_tables:
    input:
        expand(f"{RESULTS}/{{model}}/tables/{{table}}.parquet", model=MODELS, table=TABLES),
        expand(rules.analyse_model.output, model=MODELS),
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=[*TABLES, *ANALYSES]),
    shell:
        "true"


rule tabulate_costs:
    input:
        rules.join_tables.output,
    output:
        f"{RESULTS}/tables/costs.parquet",
    shell:
        "true"


rule tabulate_published:
    input:
        expand(f"{ROOT}/resources/published/{{name}}.csv", name=PUBLISHED),
    output:
        f"{RESULTS}/tables/published.parquet",
    shell:
        "true"


rule print_tables:
    input:
        rules.join_tables.output,
        rules.tabulate_costs.output,
    output:
        expand(f"{RESULTS}/tables/{{table}}.{{kind}}", table=PRINTED, kind=["csv", "tex"]),
    shell:
        "true"


rule tabulate_facts:
    input:
        expand(f"{RESULTS}/facts/{{topic}}.parquet", topic=TOPICS),
    output:
        f"{RESULTS}/tables/facts.parquet",
    shell:
        "true"


NUMBERS = [
    *rules.join_tables.output,
    *rules.tabulate_costs.output,
    *rules.tabulate_published.output,
    *rules.tabulate_facts.output,
]


rule plot:
    input:
        NUMBERS,
    output:
        expand(f"{RESULTS}/figures/{{figure}}.{{kind}}", figure=FIGURES, kind=["vl.json", "svg", "png"]),
    shell:
        "true"


rule report:
    input:
        NUMBERS,
        rules.print_tables.output,
        rules.plot.output,
    output:
        f"{RESULTS}/report.html",
    shell:
        "true"
