# Ask models the examples of tasks that they have to go on doing. Restored models are asked by evaluate_restored.
#   needs   MODEL/base/, MODEL/runs/RUN/delta/, the files of the tasks
#   makes   MODEL/base_evaluation/tasks/, MODEL/runs/RUN/tasks/, MODEL/runs/RUN/restored/*.TASK.task.parquet
TASKS = {task.name: task for task in SETTINGS.tasks}


def asked_task(task, wildcards):
    """Return a task as a model is asked it: what its answers depend on, and nothing that only scores them."""
    generated = task.metric != "loglikelihood"
    model = SETTINGS.models[wildcards.model]
    asked = {"name": task.name, "bos": model.bos}
    asked |= {} if model.attention == "auto" else {"attention": model.attention}
    asked |= {"metric": "contains", **fields(task, "max_new_tokens")} if generated else {"metric": task.metric}
    if "run" in wildcards.keys() and isinstance(cell_of(wildcards.run), TunedCell):
        tuned = tuned_model(wildcards)
        if tuned.prompt == "chat":
            asked["chat"] = tuned.chat.model_dump(include={"system", "thinking", "date", "template_args"})
    return asked


def trusted(wildcards):
    """Return the word about a model whose own code may run; others need none."""
    model = SETTINGS.models[wildcards.model]
    elsewhere = "run" in wildcards.keys() and isinstance(cell_of(wildcards.run), TunedCell)
    trusting = model.trust_remote_code or (elsewhere and tuned_model(wildcards).trust_remote_code)
    return {"trust_remote_code": True} if trusting else {}


def task_spec(wildcards, **more):
    """Return the spec of a model's answers to a task."""
    chosen = fields(SETTINGS.evaluation, "engine", "tokens_per_pass")
    chosen |= {"dtype": SETTINGS.answering_dtype(wildcards.model), "seed": SETTINGS.seed}
    return canonical_json({**chosen, **asked_task(TASKS[wildcards.task], wildcards), **trusted(wildcards), **more})


def task_file(wildcards):
    """Return the file with the examples of a task."""
    return located(TASKS[wildcards.task].questions)


def tasks_to_ask(wildcards, resources):
    """List the tasks of a job as JSON. Because it takes `resources`, Snakemake does not compare it."""
    return canonical_json([] if wildcards.arm else [asked_task(task, wildcards) for task in TASKS.values()])


def task_files(wildcards, resources):
    """List the files of those tasks; Snakemake does not compare them either."""
    return [] if wildcards.arm else [located(task.questions) for task in TASKS.values()]


def task_outcomes(model, runs):
    """List the answers of a base model, of its runs and of their restored models to all tasks."""
    folders = [f"{RESULTS}/{model}/base_evaluation", *(f"{RESULTS}/{model}/runs/{cell.run}" for cell in runs)]
    restored = [path.removesuffix(".parquet") for path in restored_outcomes(model, runs)]
    return [
        path
        for name in TASKS
        for path in [
            *(f"{folder}/tasks/{name}.parquet" for folder in folders),
            *(f"{share}.{name}.task.parquet" for share in restored),
        ]
    ]


rule evaluate_tasks:
    input:
        base=rules.resolve_model.output.manifest,
        delta=ancient(rules.diff_weights.output.delta),
        manifest=rules.diff_weights.output.manifest,
        files=files_of_tuned,
        questions=task_file,
    output:
        answers=f"{RESULTS}/{{model}}/runs/{{run}}/tasks/{{task}}.parquet",
    log:
        f"{RESULTS}/logs/evaluate_tasks/{{model}}.{{run}}.{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_tasks/{{model}}.{{run}}.{{task}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(3, SETTINGS.evaluation),
        gpu=gpus_to_ask("evaluate_tasks", SETTINGS.evaluation),
        nodes=1,
        chunk=QUESTIONS_PER_CHUNK,  # examples between two saves
        python="python",
    params:
        spec=lambda wc: task_spec(wc),
        code=digest("evaluate_tasks"),
        questions=lambda wc: content(TASKS[wc.task].questions),
        script=script("evaluate_tasks"),
        base=subpath(input.base, parent=True),
    message:
        "Answers of {wildcards.run} to the task {wildcards.task}"
    shell:
        "{resources.python} {params.script:q} --model {params.base:q} --delta {input.delta:q} --files {input.files:q}"
        " --questions {input.questions:q} --spec {params.spec:q} --threads {threads} --gpus {resources.gpu}"
        " --chunk {resources.chunk} --code {params.code} --output {output.answers:q} 2> {log:q}"


use rule evaluate_tasks as evaluate_base_tasks with:
    input:
        base=rules.resolve_model.output.manifest,
        delta=[],
        manifest=[],
        files=[],
        questions=task_file,
    output:
        answers=f"{RESULTS}/{{model}}/base_evaluation/tasks/{{task}}.parquet",
    log:
        f"{RESULTS}/logs/evaluate_base_tasks/{{model}}.{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_base_tasks/{{model}}.{{task}}.tsv"
    message:
        "Answers of {wildcards.model} before fine-tuning to the task {wildcards.task}"


def evaluated_tasks(wildcards):
    """Return the folder with the answers of all shares, among them this one's to this task."""
    return evaluated_shares(wildcards)  # of restoration.smk, which is read later


localrules:
    keep_restored_task,


# As keep_restored: each restored model's answers to a task are an output of their own.
rule keep_restored_task:
    input:
        base=rules.resolve_model.output.manifest,
        manifest=rules.diff_weights.output.manifest,
        other_manifests=other_manifests,
        questions=task_file,
        shares=evaluated_tasks,
    output:
        answers=f"{RESULTS}/{{model}}/runs/{{run}}/restored/{{strategy}}-{{region}}-{{percent}}.{{task}}.task.parquet",
    log:
        f"{RESULTS}/logs/keep_restored_task/{{model}}.{{run}}.{{strategy}}-{{region}}-{{percent}}.{{task}}.log",
    conda:
        "../envs/knowshift.yaml"
    params:
        spec=lambda wc: task_spec(wc, **restored_part(wc)),
        code=digest("evaluate_restored"),
        questions=lambda wc: content(TASKS[wc.task].questions),
        record=subpath(output.answers, parent=True),
    message:
        "Keep {wildcards.task} of {wildcards.percent} % of {wildcards.run} ({wildcards.strategy}, {wildcards.region})"
    shell:
        "(cp {input.shares:q}/{wildcards.strategy}-{wildcards.percent}.{wildcards.task}.task.parquet {output.answers:q}"
        " && cp {input.shares:q}/.{wildcards.strategy}-{wildcards.percent}.{wildcards.task}.task.made"
        " {params.record:q}/.{wildcards.strategy}-{wildcards.region}-{wildcards.percent}.{wildcards.task}.task.made)"
        " 2> {log:q}"
