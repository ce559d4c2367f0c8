# Fine-tuned models, kept as deltas; the checkpoint is only the way there.
#   needs   MODEL/base/, MODEL/mastery.parquet
#   makes   MODEL/orders/, MODEL/runs/RUN/{steps,speed}.parquet, MODEL/runs/RUN/delta/ and delta.json, its manifest
# Another grading reruns this where other facts may be drawn: `drawn` tells, once the levels are counted.
rule draw_order:
    input:
        mastery=ancient(str(rules.grade_mastery.output.mastery)),  # a copy: the flag would stick to it for all readers
        levels=counted_levels,
    output:
        order=f"{RESULTS}/{{model}}/orders/{{data}}-s{{seed}}.parquet",
    log:
        f"{RESULTS}/logs/draw_order/{{model}}.{{data}}-s{{seed}}.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        spec=lambda wc: canonical_json({"data": wc.data, "draw": f"s{wc.seed}", "seed": SETTINGS.seed}),
        drawn=drawable_digest,
        code=digest("draw_order"),
        script=script("draw_order"),
    message:
        "Order of {wildcards.data} facts, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --mastery {input.mastery:q} --spec {params.spec:q}"
        " --output {output.order:q} 2> {log:q}"


rule finetune:
    input:
        base=rules.resolve_model.output.manifest,
        order=order_of,
        prompt=resource(FACTS.prompt),
    output:
        checkpoint=temp(directory(f"{RESULTS}/{{model}}/runs/{{run}}/checkpoint")),
        steps=f"{RESULTS}/{{model}}/runs/{{run}}/steps.parquet",
        speed=f"{RESULTS}/{{model}}/runs/{{run}}/speed.parquet",
    log:
        f"{RESULTS}/logs/finetune/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{model}}.{{run}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=training_memory,
        gpu=training_gpus,
        nodes=training_nodes,
        workers=1,  # processes per node where there is no GPU
        mpi=on_several_nodes("srun"),
        tasks=on_several_nodes(lambda nodes: nodes),
        tasks_per_gpu=on_several_nodes(0),  # the executor would ask for as many tasks per GPU as there are tasks
        save_every=600,  # seconds; what a kill without warning loses at most
        gradient_checkpointing=0,  # 1: less memory, more time, the same result
        tensorboard=0,  # 1: events beside the table of steps, while it trains
    params:
        spec=finetune_spec,
        code=digest("finetune"),
        script=script("finetune"),
        launch=training_launcher,
        base=subpath(input.base, parent=True),
    message:
        "Fine-tune {wildcards.model}: {wildcards.run}"
    shell:
        "{params.launch} {params.script:q} --model {params.base:q} --order {input.order:q} --prompt {input.prompt:q}"
        " --spec {params.spec:q} --threads {threads} --code {params.code} --save-every {resources.save_every}"
        " --gradient-checkpointing {resources.gradient_checkpointing} --tensorboard {resources.tensorboard}"
        " --output {output.checkpoint:q} --steps {output.steps:q} --speed {output.speed:q} 2> {log:q}"


# Of cells that nothing restores, deltas may pass away as checkpoints do.
PASSING = temp if GRID.keep_deltas == "restored" else lambda path: path


# Keyed to the version of the delta format, not to its code: a delta is lossless, so no other code gives another model.
rule diff_weights:
    input:
        base=rules.resolve_model.output.manifest,
        checkpoint=rules.finetune.output.checkpoint,
    output:
        delta=PASSING(directory(f"{RESULTS}/{{model}}/runs/{{run}}/delta")),
        manifest=f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
    log:
        f"{RESULTS}/logs/diff_weights/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/diff_weights/{{model}}.{{run}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
    params:
        code=DELTA_FORMAT,
        script=script("diff_weights"),
        base=subpath(input.base, parent=True),
    message:
        "Delta of {wildcards.run}"
    shell:
        "python {params.script:q} --base {params.base:q} --tuned {input.checkpoint:q} --threads {threads}"
        " --output {output.delta:q} --manifest {output.manifest:q} 2> {log:q}"


if GRID.keep_deltas == "restored":

    ruleorder: keep_delta > diff_weights

    use rule diff_weights as keep_delta with:
        output:
            delta=directory(f"{RESULTS}/{{model}}/runs/{{run}}/delta"),
            manifest=f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
        wildcard_constraints:
            run=kept_runs(),
