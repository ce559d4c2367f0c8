# Ask models questions before and after fine-tuning, and measure how far their next-token distributions moved.
#   needs   MODEL/base/, MODEL/mastery.parquet, MODEL/orders/, MODEL/runs/RUN/delta/
#   makes   MODEL/base_evaluation/, MODEL/instruct/outcomes.parquet, MODEL/runs/RUN/{outcomes,divergence}.parquet
from knowshift.evaluation.options import QUESTIONS_PER_CHUNK


def evaluation_spec(model, **more):
    """Return the spec of a rule that asks a model questions: the settings that they all share, and `more`."""
    chosen = fields(SETTINGS.evaluation, "per_level", "max_new_tokens", "engine", "tokens_per_pass")
    chosen["dtype"] = SETTINGS.answering_dtype(model)
    return canonical_json({**chosen, **loading(SETTINGS.models[model]), "seed": SETTINGS.seed, **more})


def chat_spec(chat):
    """Return how a chat template is used; what needs no word changes no result."""
    used = chat.model_dump()
    return used if chat.system else {key: value for key, value in used.items() if key != "system"}


def instruct_spec(model):
    """Return the spec of a chat model's answers: its own BOS, and how its template is used if that asks it.

    A template puts BOS where it belongs and has a token limit of its own, so other values of these count for nothing.
    """
    instruct = SETTINGS.models[model].instruct
    chosen = {"trust_remote_code": False, **loading(instruct)}
    if instruct.prompt == "chat":
        chat = chat_spec(instruct.chat)
        chosen |= {"chat": chat, "bos": "never", "max_new_tokens": chat["max_new_tokens"]}
    return evaluation_spec(model, **chosen)


rule evaluate_base:
    input:
        base=rules.resolve_model.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        templates=ancient([templates_of(topic) for topic in DOMAIN_OF]),  # what counts of them is in `completions`
        prompt=located(SETTINGS.facts.prompt),
    output:
        outcomes=f"{RESULTS}/{{model}}/base_evaluation/outcomes.parquet",
        few_shot=f"{RESULTS}/{{model}}/base_evaluation/few_shot.parquet",
        logits=f"{RESULTS}/{{model}}/base_evaluation/logits.parquet",
    log:
        f"{RESULTS}/logs/evaluate_base/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_base/{{model}}.tsv"
    priority: 2  # the longest evaluation: start it early
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(2, SETTINGS.evaluation),
        gpu=gpus_to_ask("evaluate_base", SETTINGS.evaluation),
        nodes=1,
        chunk=QUESTIONS_PER_CHUNK,  # questions between two saves
        python="python",
    params:
        spec=lambda wc: evaluation_spec(wc.model, few_shot=SETTINGS.evaluation.few_shot),
        code=digest("evaluate_base"),
        prompt=content(SETTINGS.facts.prompt),
        completions=lambda wc: completions(DOMAIN_OF),
        script=script("evaluate_base"),
        base=subpath(input.base, parent=True),
        templates=lambda wc, input: Path(input.templates[0]).parent,
    message:
        "Answers of {wildcards.model} before fine-tuning"
    shell:
        "{resources.python} {params.script:q} --model {params.base:q} --mastery {input.mastery:q}"
        " --templates {params.templates:q} --prompt {input.prompt:q} --spec {params.spec:q} --threads {threads}"
        " --gpus {resources.gpu} --chunk {resources.chunk} --code {params.code}"
        " --outcomes {output.outcomes:q} --few-shot-outcomes {output.few_shot:q} --logits {output.logits:q} 2> {log:q}"


def run_spec(wildcards, **more):
    """Return the spec of asking a fine-tuned model, restored or not.

    One that was trained here is asked some questions of its own training set too, and one that was trained elsewhere
    in its own way.
    """
    if not isinstance(cell_of(wildcards.run), TunedCell):
        own = {"training_set": SETTINGS.evaluation.training_set, "size": size_of(wildcards.run)}
        return evaluation_spec(wildcards.model, **own, **more)
    tuned = tuned_model(wildcards)
    own = {"trust_remote_code": True} if tuned.trust_remote_code else {}
    if tuned.prompt == "chat":
        chat = chat_spec(tuned.chat)
        own |= {"chat": chat, "bos": "never", "max_new_tokens": chat["max_new_tokens"]}
    return evaluation_spec(wildcards.model, **own, **more)


def prompt_of(wildcards):
    """List the prompt file that a fine-tuned model is asked with; in a chat none is read."""
    if not isinstance(cell_of(wildcards.run), TunedCell):
        return located(SETTINGS.facts.prompt)
    tuned = tuned_model(wildcards)
    return [] if tuned.prompt == "chat" else located(tuned.prompt_file or SETTINGS.facts.prompt)


def prompt_content(wildcards):
    """Return a digest of that file."""
    paths = prompt_of(wildcards)
    return content(*([paths] if isinstance(paths, str) else paths))


rule evaluate:
    input:
        base=rules.resolve_model.output.manifest,
        delta=ancient(rules.diff_weights.output.delta),
        manifest=rules.diff_weights.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        order=order_of,
        prompt=prompt_of,
        files=files_of_tuned,
    output:
        outcomes=f"{RESULTS}/{{model}}/runs/{{run}}/outcomes.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{model}}.{{run}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(3, SETTINGS.evaluation),
        gpu=gpus_to_ask("evaluate", SETTINGS.evaluation),
        nodes=1,
        chunk=QUESTIONS_PER_CHUNK,  # questions between two saves
        python="python",
    params:
        spec=lambda wc: run_spec(wc),
        code=digest("evaluate"),
        prompt=prompt_content,
        script=script("evaluate"),
        base=subpath(input.base, parent=True),
    message:
        "Answers of {wildcards.run}"
    shell:
        "{resources.python} {params.script:q} --model {params.base:q} --delta {input.delta:q} --files {input.files:q}"
        " --mastery {input.mastery:q}"
        " --order {input.order:q} --prompt {input.prompt:q} --spec {params.spec:q} --threads {threads}"
        " --gpus {resources.gpu} --chunk {resources.chunk} --code {params.code}"
        " --output {output.outcomes:q} 2> {log:q}"


rule evaluate_instruct:
    input:
        model=rules.resolve_instruct.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        prompt=located(SETTINGS.facts.prompt),
    output:
        outcomes=f"{RESULTS}/{{model}}/instruct/outcomes.parquet",
    log:
        f"{RESULTS}/logs/evaluate_instruct/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_instruct/{{model}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(2, SETTINGS.evaluation, "instruct"),
        gpu=gpus_to_ask("evaluate_instruct", SETTINGS.evaluation, "instruct"),
        nodes=1,
        chunk=QUESTIONS_PER_CHUNK,
        python="python",
    params:
        spec=lambda wc: instruct_spec(wc.model),
        code=digest("evaluate"),
        prompt=content(SETTINGS.facts.prompt),
        script=script("evaluate"),
        model=subpath(input.model, parent=True),
    message:
        "Answers of the chat model beside {wildcards.model}"
    shell:
        "{resources.python} {params.script:q} --model {params.model:q} --mastery {input.mastery:q}"
        " --prompt {input.prompt:q}"
        " --spec {params.spec:q} --threads {threads} --gpus {resources.gpu} --chunk {resources.chunk}"
        " --code {params.code}"
        " --output {output.outcomes:q} 2> {log:q}"


rule measure_divergence:
    input:
        outcomes=rules.evaluate.output.outcomes,
        logits=rules.evaluate_base.output.logits,
    output:
        divergence=f"{RESULTS}/{{model}}/runs/{{run}}/divergence.parquet",
    log:
        f"{RESULTS}/logs/measure_divergence/{{model}}.{{run}}.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=lambda wildcards, input, attempt: attempt * (1000 + 3 * input.size_mb),
    params:
        spec=spec_of(SETTINGS.divergence.model_dump()),
        code=digest("measure_divergence"),
        script=script("measure_divergence"),
    message:
        "Divergence of {wildcards.run}"
    shell:
        "python {params.script:q} --outcomes {input.outcomes:q} --base-logits {input.logits:q}"
        " --spec {params.spec:q} --output {output.divergence:q} 2> {log:q}"
