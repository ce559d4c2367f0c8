# One target per stage, and the plan of what an experiment will take.
#   snakemake mastery | finetunes | evaluations | restorations | report | export | plan
localrules:
    plan,


rule mastery:
    input:
        expand(rules.count_levels.output.levels, model=SETTINGS.models),


HISTOGRAMS = [f"changes/{region}.histogram.parquet" for region in SETTINGS.regions]
# Where deltas are deleted once they are read, their readers belong to the stage that makes them: no model is trained
# twice.
ASKED = ["outcomes.parquet", *(f"tasks/{name}.parquet" for name in TASKS)]
READERS = [*ASKED, *HISTOGRAMS] if KEEP_DELTAS == "restored" else []


def of_models(*names):
    """Make the input functions of a stage's target, one per model: models do not wait for one another."""
    return [lambda wc, model=model: files_of(model, *dict.fromkeys(names)) for model in SETTINGS.models]


rule finetunes:
    input:
        *of_models("delta.json", *READERS),


rule evaluations:
    input:
        expand(rules.evaluate_base.output.outcomes, model=SETTINGS.models),
        [f"{RESULTS}/{name}/instruct/outcomes.parquet" for name, model in SETTINGS.models.items() if model.instruct],
        expand(rules.evaluate_base_tasks.output.answers, model=SETTINGS.models, task=TASKS),
        *of_models(*ASKED, "divergence.parquet", *READERS),


def restored_of_models():
    """Make the input functions for all restored models, one per model."""
    return [
        lambda wc, model=model, list_outcomes=list_outcomes: list_outcomes(model, feasible_runs(model))
        for model in SETTINGS.models
        for list_outcomes in (restored_outcomes, precision_outcomes, task_outcomes)
    ]


rule restorations:
    input:
        *of_models(*HISTOGRAMS),
        *restored_of_models(),


rule export:
    input:
        exported_models(),


def final_results():
    """List tables and figures, so that a deleted one is made again although the report does not need it."""
    answers = expand(f"{RESULTS}/{{model}}/tables/answers.parquet", model=REPORTED)
    return [*rules.tabulate_facts.output, *rules.join_tables.output, *rules.plot.output, *answers]


def foreseen_jobs():
    """Return what is planned per rule, for the time that a run will take; empty where it cannot be planned."""
    from watching.foresight import foresee

    return foresee(SETTINGS, BASE)


rule plan:
    log:
        f"{RESULTS}/logs/plan.log",
    conda:
        "../envs/knowshift.yaml"
    params:
        spec=spec_of(SETTINGS.model_dump()),
        script=script("plan"),
        at_once=0 if machine().gpu_gb or stated("gpu_gb") is not None else workflow.cores or 1,  # on this machine
    message:
        "What the experiment will take"
    shell:
        "python {params.script:q} --spec {params.spec:q} --at-once {params.at_once} 2> {log:q}"
