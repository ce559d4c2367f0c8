# A target per stage, and what the whole will take. A target asks for each model by an input function of its own: models do not
# wait for one another.
#   snakemake mastery | finetunes | evaluations | restorations | report | export | plan
localrules:
    plan,


HISTOGRAMS = [f"updates/{region}.histogram.parquet" for region in SETTINGS.regions]
# Where deltas pass away, what reads them belongs to the stage that makes them: otherwise models would be trained twice.
READERS = ["outcomes.parquet", *HISTOGRAMS] if GRID.keep_deltas == "restored" else []


def of_models(*names):
    """Input functions: files of every feasible run, a function per model."""
    return [lambda wc, model=model: files_of(model, *dict.fromkeys(names)) for model in SETTINGS.models]


rule mastery:
    input:
        expand(rules.count_levels.output.levels, model=SETTINGS.models),


rule finetunes:
    input:
        *of_models("delta.json", *READERS),


rule evaluations:
    input:
        expand(rules.score_base.output.outcomes, model=SETTINGS.models),
        [f"{RESULTS}/{name}/instruct/outcomes.parquet" for name, model in SETTINGS.models.items() if model.instruct],
        *of_models("outcomes.parquet", "divergence.parquet", *READERS),


rule restorations:
    input:
        *of_models(*HISTOGRAMS),
        *[lambda wc, model=model: restored_outcomes(model, feasible_runs(model)) for model in SETTINGS.models],


rule export:
    input:
        exported_models(),


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    conda:
        "../envs/knowshift.yaml"
    params:
        spec=canonical_json(SETTINGS.model_dump()),
        script=script("plan"),
    message:
        "What the experiment will take"
    shell:
        "python {params.script:q} --spec {params.spec:q} 2> {log:q}"
