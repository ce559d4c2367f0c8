# What models answer, before and after fine-tuning, and how far their next-token distributions moved.
#   needs   MODEL/base/, MODEL/mastery.parquet, MODEL/orders/, MODEL/runs/RUN/delta/
#   makes   MODEL/base_scores/, MODEL/runs/RUN/outcomes.parquet, MODEL/runs/RUN/divergence.parquet
def evaluation_spec(**more):
    chosen = fields(SETTINGS.evaluation, "per_level", "max_new_tokens", "dtype", "rows", "prompt_rows")
    return canonical_json({**chosen, "seed": SETTINGS.seed, **more})


def run_questions(run):
    """What of the spec of a run's evaluation is its own: it asks some of its training set too."""
    return {"training_set": SETTINGS.evaluation.training_set, "size": size_of(run)}


rule score_base:
    input:
        base=rules.resolve_model.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        templates=[templates_of(topic) for topic in DOMAIN_OF],
        prompt=resource(FACTS.prompt),
    output:
        outcomes=f"{RESULTS}/{{model}}/base_scores/outcomes.parquet",
        logits=f"{RESULTS}/{{model}}/base_scores/logits.parquet",
    log:
        f"{RESULTS}/logs/score_base/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_base/{{model}}.tsv"
    params:
        spec=evaluation_spec(),
        code=digest("score_base"),
        base=subpath(input.base, parent=True),
        templates=resource(FACTS.templates),
    threads: 1
    priority: 1  # the longest evaluation: start it early
    resources:
        mem_mb=memory(2),
        gpu=int(HAS_GPU),
    conda:
        "../envs/knowshift.yaml"
    message:
        "Answers of {wildcards.model} before fine-tuning"
    shell:
        "python {SCRIPTS}/score_base.py --model {params.base:q} --mastery {input.mastery:q}"
        " --templates {params.templates:q} --prompt {input.prompt:q} --spec {params.spec:q} --threads {threads}"
        " --outcomes {output.outcomes:q} --logits {output.logits:q} 2> {log:q}"


rule evaluate:
    input:
        base=rules.resolve_model.output.manifest,
        delta=rules.diff_weights.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        order=order_of,
        prompt=resource(FACTS.prompt),
    output:
        outcomes=f"{RESULTS}/{{model}}/runs/{{run}}/outcomes.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{model}}.{{run}}.tsv"
    params:
        spec=lambda wc: evaluation_spec(**run_questions(wc.run)),
        code=digest("evaluate"),
        base=subpath(input.base, parent=True),
        delta=subpath(input.delta, parent=True),
    threads: 1
    resources:
        mem_mb=memory(3),
        gpu=int(HAS_GPU),
    conda:
        "../envs/knowshift.yaml"
    message:
        "Answers of {wildcards.run}"
    shell:
        "python {SCRIPTS}/evaluate.py --model {params.base:q} --delta {params.delta:q} --mastery {input.mastery:q}"
        " --order {input.order:q} --prompt {input.prompt:q} --spec {params.spec:q} --threads {threads}"
        " --output {output.outcomes:q} 2> {log:q}"


rule measure_divergence:
    input:
        outcomes=rules.evaluate.output.outcomes,
        logits=rules.score_base.output.logits,
    output:
        divergence=f"{RESULTS}/{{model}}/runs/{{run}}/divergence.parquet",
    log:
        f"{RESULTS}/logs/measure_divergence/{{model}}.{{run}}.log",
    params:
        spec=canonical_json(SETTINGS.divergence.model_dump()),
        code=digest("measure_divergence"),
    resources:
        mem_mb=1000,
    conda:
        "../envs/knowshift.yaml"
    message:
        "Divergence of {wildcards.run}"
    shell:
        "python {SCRIPTS}/measure_divergence.py --outcomes {input.outcomes:q} --base-logits {input.logits:q}"
        " --spec {params.spec:q} --output {output.divergence:q} 2> {log:q}"
