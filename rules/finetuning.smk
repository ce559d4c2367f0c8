# Fine-tuned models, kept as deltas; the checkpoint is only the way there.
#   needs   MODEL/base/, MODEL/mastery.parquet
#   makes   MODEL/orders/, MODEL/runs/RUN/steps.parquet, MODEL/runs/RUN/delta/
rule draw_order:
    input:
        mastery=rules.grade_mastery.output.mastery,
    output:
        order=f"{RESULTS}/{{model}}/orders/{{data}}-s{{seed}}.parquet",
    log:
        f"{RESULTS}/logs/draw_order/{{model}}.{{data}}-s{{seed}}.log",
    params:
        spec=lambda wc: canonical_json({"data": wc.data, "draw": f"s{wc.seed}", "seed": SETTINGS.seed}),
        code=digest("draw_order"),
    resources:
        mem_mb=500,
    conda:
        "../envs/knowshift.yaml"
    message:
        "Order of {wildcards.data} facts, seed {wildcards.seed}"
    shell:
        "python {SCRIPTS}/draw_order.py --mastery {input.mastery:q} --spec {params.spec:q}"
        " --output {output.order:q} 2> {log:q}"


def order_of(wildcards):
    """The order that a run takes its facts from."""
    cell = Cell.parse(wildcards.run)
    return f"{RESULTS}/{wildcards.model}/orders/{cell.data}-s{cell.seed}.parquet"


def size_of(run):
    """The size of a run, None for all."""
    size = Cell.parse(run).size
    return None if size == "all" else size


def finetune_spec(wildcards):
    recipe = GRID.model_dump(exclude={"methods", "data", "sizes", "seeds"})
    name = f"s{Cell.parse(wildcards.run).seed}"
    return canonical_json({**recipe, "size": size_of(wildcards.run), "name": name, "seed": SETTINGS.seed})


rule finetune:
    input:
        base=rules.resolve_model.output.manifest,
        order=order_of,
        prompt=resource(FACTS.prompt),
    output:
        checkpoint=temp(directory(f"{RESULTS}/{{model}}/runs/{{run}}/checkpoint")),
        steps=f"{RESULTS}/{{model}}/runs/{{run}}/steps.parquet",
    log:
        f"{RESULTS}/logs/finetune/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{model}}.{{run}}.tsv"
    params:
        spec=finetune_spec,
        code=digest("finetune"),
        base=subpath(input.base, parent=True),
    threads: 1
    resources:
        mem_mb=memory(5),
        gpu=int(HAS_GPU),
    conda:
        "../envs/knowshift.yaml"
    message:
        "Fine-tune {wildcards.model}: {wildcards.run}"
    shell:
        "python {SCRIPTS}/finetune.py --model {params.base:q} --order {input.order:q} --prompt {input.prompt:q}"
        " --spec {params.spec:q} --threads {threads} --output {output.checkpoint:q} --steps {output.steps:q} 2> {log:q}"


# Keyed to the version of the delta format, not to its code: a delta is lossless, so no other code gives another model.
rule diff_weights:
    input:
        base=rules.resolve_model.output.manifest,
        checkpoint=rules.finetune.output.checkpoint,
    output:
        manifest=f"{RESULTS}/{{model}}/runs/{{run}}/delta/manifest.json",
    log:
        f"{RESULTS}/logs/diff_weights/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/diff_weights/{{model}}.{{run}}.tsv"
    params:
        code="knowshift-delta-1",
        base=subpath(input.base, parent=True),
        delta=subpath(output.manifest, parent=True),
    threads: 1
    resources:
        mem_mb=2000,
    conda:
        "../envs/knowshift.yaml"
    message:
        "Delta of {wildcards.run}"
    shell:
        "python {SCRIPTS}/diff_weights.py --base {params.base:q} --tuned {input.checkpoint:q} --threads {threads}"
        " --output {params.delta:q} 2> {log:q}"
