# Measure which parameters moved most, and restore a share of them to their values before training.
#   needs   MODEL/base/, MODEL/runs/RUN/delta/, MODEL/mastery.parquet
#   makes   MODEL/runs/RUN/changes/, MODEL/runs/RUN/restored/, MODEL/runs/RUN/restored-DTYPE/, MODEL/exports/
from argparse import Namespace

from knowshift.allowed_values import STRATEGY_TRAITS

if workflow.is_main_process and (names := SETTINGS.narrow_answers()):
    logger.warning(
        f"Restored models of {', '.join(names)} answer in a narrower number format than their changes are stored in, so"
        " small changes are rounded away before anything is restored: set evaluation.dtype to float32."
    )


def pattern_of(region):
    """Return what scripts are told about a region: a named region is given by its regular expression."""
    return SETTINGS.named_regions.get(region, region)


rule measure_changes:
    input:
        base=rules.resolve_model.output.manifest,
        delta=ancient(rules.diff_weights.output.delta),
        manifest=rules.diff_weights.output.manifest,
    output:
        histogram=f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.histogram.parquet",
        tensors=f"{RESULTS}/{{model}}/runs/{{run}}/changes/{{region}}.tensors.parquet",
    log:
        f"{RESULTS}/logs/measure_changes/{{model}}.{{run}}.{{region}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_changes/{{model}}.{{run}}.{{region}}.tsv"
    priority: before_the_longest
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
    params:
        spec=lambda wc: canonical_json({"region": pattern_of(wc.region), "seed": SETTINGS.seed}),
        code=digest("measure_changes"),
        script=script("measure_changes"),
        base=subpath(input.base, parent=True),
    message:
        "Relative changes of {wildcards.run} ({wildcards.region})"
    shell:
        "python {params.script:q} --base {params.base:q} --delta {input.delta:q} --spec {params.spec:q}"
        " --threads {threads} --histogram {output.histogram:q} --tensors {output.tensors:q} 2> {log:q}"


def histogram_of(wildcards):
    """List the stored histogram that a selection by relative change starts from; other strategies need none."""
    if not STRATEGY_TRAITS[wildcards.strategy].from_histogram:
        return []
    return [f"{RESULTS}/{wildcards.model}/runs/{wildcards.run}/changes/{wildcards.region}.histogram.parquet"]


def restored_part(wildcards):
    """Return the region, and what is restored of it: the strategy and the percent, or neither for all together."""
    alone = "percent" in wildcards.keys()
    share = {"strategy": wildcards.strategy, "percent": float(wildcards.percent)} if alone else {}
    return {"region": pattern_of(wildcards.region), **share}


def restore_spec(wildcards):
    """Return the spec of restored models' answers: what they are asked, how, and what is restored."""
    more = {"dtype": wildcards.arm[1:]} if wildcards.arm else {}
    return run_spec(wildcards, **restored_part(wildcards), **more)


def outcomes_of(model, run, arm, entry, percent):
    """Return the path of the outcomes of one restored model."""
    share = f"{entry.strategy}-{entry.region}-{plain_number(percent)}"
    return f"{RESULTS}/{model}/runs/{run}/restored{arm}/{share}.parquet"


def restored_outcomes(model, runs):
    """List the restored models that the configuration asks for among `runs`, by their outcomes, each of them once."""
    asked = (
        outcomes_of(model, cell.run, "", entry, percent)
        for cell in runs
        for entry in SETTINGS.restoration
        if is_restored(entry, model, cell)
        for percent in entry.percents
    )
    return list(dict.fromkeys(asked))


def precision_outcomes(model, runs):
    """List the restored models among `runs` that answer in a further number format, by their outcomes.

    The folder `restored-DTYPE` beside `restored` also has the models with nothing restored, for comparison.
    """
    asked = (
        outcomes_of(model, cell.run, f"-{dtype}", entry, percent)
        for cell in runs
        for entry in SETTINGS.restoration
        if is_restored(entry, model, cell)
        for dtype in entry.more_dtypes
        if dtype != SETTINGS.answering_dtype(model)
        for percent in sorted({0, *entry.percents})
    )
    return list(dict.fromkeys(asked))


@cache
def restored_shares(model, run, region, arm):
    """Return the shares of a region of a run that the configuration asks for, by strategy in the order it names them.

    Args:
        arm: "" for answers in the number format of `evaluation`, or "-DTYPE" for those in a further one.
    """
    shares = {}
    for entry in SETTINGS.restoration:
        asked = entry.region == region and (not arm or arm[1:] in entry.more_dtypes)
        if asked and is_restored(entry, model, cell_of(run)):
            shares.setdefault(entry.strategy, {0} if arm else set()).update(entry.percents)
    return {strategy: sorted(percents) for strategy, percents in shares.items()}


def sweep_of(wildcards):
    """Return what the restored models of one job have in common: model, run, region and arm."""
    arm = wildcards.arm if "arm" in wildcards.keys() else ""  # tasks are asked in the number format of `evaluation`
    return wildcards.model, wildcards.run, wildcards.region, arm


def shares_to_evaluate(wildcards, resources):
    """List the strategies and shares of a job as JSON. Because it takes `resources`, Snakemake does not compare it."""
    shares = restored_shares(*sweep_of(wildcards))
    return canonical_json([{"strategy": strategy, "percents": percents} for strategy, percents in shares.items()])


def shares_in_words(wildcards, resources):
    """Say the strategies and shares of a job for people; Snakemake does not compare it either."""
    shares = restored_shares(*sweep_of(wildcards))
    return ", ".join(f"{strategy} {'/'.join(map(plain_number, percents))} %" for strategy, percents in shares.items())


def of_each_strategy(listed):
    """Make an input function of a job from one of a share: what any strategy of the job needs, each file once."""

    def files(wildcards):
        strategies = restored_shares(*sweep_of(wildcards))
        found = [listed(Namespace(**{**wildcards, "strategy": strategy})) for strategy in strategies]
        return list(dict.fromkeys(path for paths in found for path in paths))

    return files


RESTORED = f"{RESULTS}/{{model}}/runs/{{run}}/restored{{arm}}"
SHARE = f"{RESTORED}/{{strategy}}-{{region}}-{{percent}}"


# One process for all strategies and shares of a cell and region: it reads the model once. What it makes is temporary,
# so it runs when, and only when, a share below is stale; a share that nothing has changed for is copied.
rule evaluate_restored:
    input:
        base=rules.resolve_model.output.manifest,
        delta=ancient(rules.diff_weights.output.delta),
        manifest=rules.diff_weights.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        order=order_of,
        prompt=prompt_of,
        files=files_of_tuned,
        histogram=of_each_strategy(histogram_of),
        others=of_each_strategy(other_deltas),
        other_manifests=of_each_strategy(other_manifests),
    output:
        shares=temp(directory(f"{RESTORED}/{{region}}.shares")),
    log:
        f"{RESULTS}/logs/evaluate_restored/{{model}}.{{run}}{{arm}}.{{region}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate_restored/{{model}}.{{run}}{{arm}}.{{region}}.tsv"
    priority: 2
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory_to_ask(3, SETTINGS.evaluation, as_trained=True),  # fine-tuned, restored, and while it is read
        gpu=gpus_to_ask("evaluate_restored", SETTINGS.evaluation),
        nodes=1,
        chunk=QUESTIONS_PER_CHUNK,  # questions between two saves
        python="python",
    params:
        spec=restore_spec,
        code=digest("evaluate_restored"),
        prompt=prompt_content,
        shares=shares_to_evaluate,
        in_words=shares_in_words,
        tasks=tasks_to_ask,
        task_files=task_files,
        script=script("evaluate_restored"),
        base=subpath(input.base, parent=True),
        kept=f"{RESTORED}/{{region}}",
    message:
        "{wildcards.run}{wildcards.arm}, restored: {params.in_words} ({wildcards.region})"
    shell:
        "{resources.python} {params.script:q} --model {params.base:q} --delta {input.delta:q} --files {input.files:q}"
        " --mastery {input.mastery:q} --order {input.order:q} --prompt {input.prompt:q} --histogram {input.histogram:q}"
        " --others {input.others:q} --spec {params.spec:q} --strategies {params.shares:q}"
        " --tasks {params.tasks:q} --task-files {params.task_files:q}"
        " --threads {threads} --gpus {resources.gpu} --chunk {resources.chunk} --code {params.code}"
        " --kept {params.kept:q} --output {output.shares:q} 2> {log:q}"


def evaluated_shares(wildcards):
    """Return the folder with the answers of all shares, among them this one.

    Raises:
        WorkflowError: the configuration does not ask for this share.
    """
    sweep, strategy = sweep_of(wildcards), wildcards.strategy
    if wildcards.percent not in map(plain_number, restored_shares(*sweep).get(strategy, [])):
        raise WorkflowError(
            f"{'/'.join(sweep)}: no entry under restoration asks for {wildcards.percent} % ({strategy}); add one"
        )
    return expand(rules.evaluate_restored.output.shares, **{"arm": "", **wildcards})


localrules:
    keep_restored,


# Each share is an output of its own, which depends on all that its answers depend on.
rule keep_restored:
    input:
        base=rules.resolve_model.output.manifest,
        manifest=rules.diff_weights.output.manifest,
        mastery=rules.grade_mastery.output.mastery,
        order=order_of,
        prompt=prompt_of,
        histogram=histogram_of,
        other_manifests=other_manifests,
        shares=evaluated_shares,
    output:
        outcomes=f"{SHARE}.parquet",
        selection=f"{SHARE}.selection.parquet",
    log:
        f"{RESULTS}/logs/keep_restored/{{model}}.{{run}}{{arm}}.{{strategy}}-{{region}}-{{percent}}.log",
    conda:
        "../envs/knowshift.yaml"
    params:
        spec=restore_spec,
        code=digest("evaluate_restored"),
        prompt=prompt_content,
        record=subpath(output.outcomes, parent=True),
    message:
        "Keep {wildcards.percent} % of {wildcards.run}{wildcards.arm} ({wildcards.strategy}, {wildcards.region})"
    shell:
        "(cp {input.shares:q}/{wildcards.strategy}-{wildcards.percent}.parquet {output.outcomes:q}"
        " && cp {input.shares:q}/{wildcards.strategy}-{wildcards.percent}.selection.parquet {output.selection:q}"
        " && cp {input.shares:q}/.{wildcards.strategy}-{wildcards.percent}.made"
        " {params.record:q}/.{wildcards.strategy}-{wildcards.region}-{wildcards.percent}.made) 2> {log:q}"


def forget_forced():
    """Forget what restored models were made from, if their answers are to be made anew whatever they depend on."""
    settings = workflow.dag_settings
    if settings.forceall or "evaluate_restored" in settings.forcerun:
        for record in Path(RESULTS).glob("*/runs/*/restored*/.*.made"):
            record.unlink()


rule export_model:
    input:
        base=rules.resolve_model.output.manifest,
        delta=ancient(rules.diff_weights.output.delta),
        manifest=rules.diff_weights.output.manifest,
        files=files_of_tuned,
        others=other_deltas,
        other_manifests=other_manifests,
    output:
        manifest=f"{RESULTS}/{{model}}/exports/{{run}}/{{strategy}}-{{region}}-{{percent}}/manifest.json",
    log:
        f"{RESULTS}/logs/export_model/{{model}}.{{run}}.{{strategy}}-{{region}}-{{percent}}.log",
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
    params:
        spec=lambda wc: canonical_json({**restored_part(wc), "seed": SETTINGS.seed}),
        code=digest("export_model"),
        script=script("export_model"),
        base=subpath(input.base, parent=True),
        folder=subpath(output.manifest, parent=True),
    message:
        "Export {wildcards.run} with {wildcards.percent} % ({wildcards.strategy}, {wildcards.region}) restored"
    shell:
        "python {params.script:q} --base {params.base:q} --delta {input.delta:q} --files {input.files:q}"
        " --others {input.others:q} --spec {params.spec:q}"
        " --threads {threads} --output {params.folder:q} 2> {log:q}"


def exported_models():
    """Make an input function per export. It waits for the level counts, so that no training is planned in vain."""

    def exported(number, entry):
        path = f"{entry.run}/{entry.strategy}-{entry.region}-{plain_number(entry.percent)}/manifest.json"
        if isinstance(cell := cell_of(entry.run), Cell):
            check_export(number, available_facts(level_counts(entry.model), cell.data))
        return f"{RESULTS}/{entry.model}/exports/{path}"

    asked = [(number, entry) for number, entry in enumerate(SETTINGS.exports) if entry.model in REPORTED]
    return [lambda wc, number=number, entry=entry: exported(number, entry) for number, entry in asked]
