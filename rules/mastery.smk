# Measure how well the pre-trained model knows each fact.
#   needs   facts/, MODEL/base/
#   makes   MODEL/completions/, MODEL/mastery.parquet, MODEL/levels.parquet
localrules:
    count_levels,


from knowshift.mastery.options import COMPLETIONS_PER_CHUNK


def completions(topics):
    """Return the completion templates that a model is probed with; templates that are not in use do not count."""
    return canonical_json(
        [[topic, topic_templates(topic).completions[: SETTINGS.mastery.templates]] for topic in topics]
    )


def check_export(number, facts):
    """Stop if the run that an entry under `exports` names cannot be trained; it need not be in the grid.

    Args:
        number: index of the entry.
        facts: facts that its training set can be drawn from, or at most so many.

    Raises:
        WorkflowError: they are too few.
    """
    from knowshift.planning.feasibility import too_few_facts

    if problem := too_few_facts(Cell.parse(SETTINGS.exports[number].run), facts):
        raise WorkflowError(f"exports.{number}.run: {problem}")


def check_grid():
    """Stop before anything is probed if the user's facts let no cell be trained or tested, or none that is exported.

    Tables of facts that are built may be of older raw data. Those of an archive are not known before it is there.

    Raises:
        WorkflowError: there is nothing to measure.
    """
    from knowshift.planning.feasibility import drawable_facts, nothing_to_measure
    from knowshift.planning.inventory import Inventory

    if SETTINGS.facts.source == "archive" or all(Path(RESULTS, name, "mastery.parquet").exists() for name in REPORTED):
        return
    try:
        topics = Inventory(SETTINGS, BASE).topics(built=False)
    except KnowshiftError:
        return  # the rule that builds the facts names it
    if problem := nothing_to_measure(PLANNED_CELLS, topics):
        raise WorkflowError(problem)
    for number, entry in enumerate(SETTINGS.exports):
        if isinstance(cell_of(entry.run), Cell):
            check_export(number, drawable_facts(topics))


# Here and not in a function of a rule, where Snakemake would put the message into many lines.
if workflow.exec_mode == ExecMode.DEFAULT:
    check_grid()


def probe_spec(wildcards):
    """Return the spec of probing one split of a topic."""
    chosen = fields(SETTINGS.mastery, "samples", "temperature", "max_new_tokens", "engine", "tokens_per_pass")
    chosen["dtype"] = SETTINGS.models[wildcards.model].dtype or SETTINGS.mastery.dtype
    more = {
        "templates": SETTINGS.mastery.templates,
        "split": wildcards.split,
        "facts_limit": SETTINGS.facts_limit(wildcards.split),
        **loading(SETTINGS.models[wildcards.model]),
        "seed": SETTINGS.seed,
    }
    return canonical_json({**chosen, **more})


rule probe_mastery:
    input:
        facts=rules.build_facts.output.facts,
        templates=lambda wc: ancient(templates_of(wc.topic)),  # what counts of them is in `completions`
        base=rules.resolve_model.output.manifest,
    output:
        completions=f"{RESULTS}/{{model}}/completions/{{topic}}.{{split}}.parquet",
    log:
        f"{RESULTS}/logs/probe_mastery/{{model}}.{{topic}}.{{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/probe_mastery/{{model}}.{{topic}}.{{split}}.tsv"
    priority: lambda wc: int(wc.split == "train")  # the longest jobs first, so that none is left over at the end
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(2, SETTINGS.mastery),
        gpu=gpus_to_ask("probe_mastery", SETTINGS.mastery),
        nodes=1,
        chunk=COMPLETIONS_PER_CHUNK,  # completions between two saves; bounds memory
        python="python",  # another environment's for engine: vllm
    params:
        spec=probe_spec,
        completions=lambda wc: completions([wc.topic]),
        code=digest("probe_mastery"),
        script=script("probe_mastery"),
        base=subpath(input.base, parent=True),
    message:
        "What {wildcards.model} knows of {wildcards.topic} ({wildcards.split})"
    shell:
        "{resources.python} {params.script:q} --model {params.base:q} --facts {input.facts:q}"
        " --templates {input.templates:q} --spec {params.spec:q} --threads {threads} --gpus {resources.gpu}"
        " --chunk {resources.chunk} --code {params.code}"
        " --output {output.completions:q} 2> {log:q}"


rule grade_mastery:
    input:
        facts=expand(rules.build_facts.output.facts, topic=DOMAIN_OF),
        completions=lambda wc: [f"{RESULTS}/{wc.model}/completions/{topic}.{split}.parquet" for topic, split in UNITS],
        synonyms=[located(path) for path in SETTINGS.facts.synonyms],
    output:
        mastery=f"{RESULTS}/{{model}}/mastery.parquet",
    log:
        f"{RESULTS}/logs/grade_mastery/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/grade_mastery/{{model}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(2000),
    params:
        spec=spec_of({**matching(), **fields(SETTINGS.mastery, "boundaries", "levels_from")}),
        code=digest("grade_mastery"),
        synonyms=content(*SETTINGS.facts.synonyms),
        script=script("grade_mastery"),
    message:
        "Mastery levels of {wildcards.model}"
    shell:
        "python {params.script:q} --facts {input.facts:q} --completions {input.completions:q}"
        " --synonyms {input.synonyms:q} --spec {params.spec:q} --output {output.mastery:q} 2> {log:q}"


checkpoint count_levels:
    input:
        mastery=rules.grade_mastery.output.mastery,
    output:
        levels=f"{RESULTS}/{{model}}/levels.parquet",
    log:
        f"{RESULTS}/logs/count_levels/{{model}}.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        code=digest("count_levels"),
        script=script("count_levels"),
    message:
        "Facts per level of {wildcards.model}"
    shell:
        "python {params.script:q} --mastery {input.mastery:q} --output {output.levels:q} 2> {log:q}"
