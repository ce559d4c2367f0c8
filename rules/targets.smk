# A target per stage, and what the whole will take.
#   snakemake mastery | finetunes | evaluations | restorations | report | export | plan
localrules:
    plan,


rule mastery:
    input:
        expand(rules.count_levels.output.levels, model=SETTINGS.models),


rule finetunes:
    input:
        *of_models("delta.json", *READERS),


rule evaluations:
    input:
        expand(rules.evaluate_base.output.outcomes, model=SETTINGS.models),
        [f"{RESULTS}/{name}/instruct/outcomes.parquet" for name, model in SETTINGS.models.items() if model.instruct],
        *of_models("outcomes.parquet", "divergence.parquet", *READERS),


rule restorations:
    input:
        *of_models(*HISTOGRAMS),
        *restored_of_models(),


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
