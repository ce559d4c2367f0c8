# Fine-tune models, and keep each one as a delta to its base. The checkpoint only lives until the delta is made.
#   needs   MODEL/base/, MODEL/mastery.parquet
#   makes   MODEL/orders/, MODEL/runs/RUN/{steps,speed}.parquet, MODEL/runs/RUN/delta/ and delta.json, its manifest
# A model that was fine-tuned elsewhere only gets its delta here.
# A new grading reruns a run only where its data kind may now draw other facts: the param `drawn` tells.
from knowshift.finetuning.options import SECONDS_BETWEEN_SAVES
from knowshift.finetuning.orders import KNOWN, KNOWN_LEVELS


@cache
def level_counts(model):
    """Read the table of a model's level counts. It exists once mastery is graded."""
    from knowshift.mastery.schemas import LEVEL_COUNTS
    from knowshift.runtime.parquet import read_table

    announce(model)
    return read_table(Path(checkpoints.count_levels.get(model=model).output.levels), LEVEL_COUNTS)


def check_level_counts():
    """Check that tables of level counts that are there can be read, before Snakemake plans by them.

    Raises:
        WorkflowError: one is damaged.
    """
    from knowshift.mastery.schemas import LEVEL_COUNTS
    from knowshift.runtime.parquet import read_table

    for path in (Path(RESULTS, name, "levels.parquet") for name in REPORTED):
        try:
            path.exists() and read_table(path, LEVEL_COUNTS)
        except KnowshiftError as error:
            what, _, _ = str(error).rpartition(";")
            raise WorkflowError(f"{what}; delete it, and the next run makes it again") from None


# Here and not in a function of a rule, where Snakemake would put the message into many lines.
if workflow.exec_mode == ExecMode.DEFAULT:
    check_level_counts()


@cache
def announce(model):
    """Say in a dry run how many cells follow the checkpoint, since Snakemake cannot plan beyond it."""
    if workflow.dryrun and not Path(RESULTS, model, "levels.parquet").exists():
        every = [*PLANNED_CELLS, *TUNED_CELLS[model]]
        restored = [*restored_outcomes(model, every), *precision_outcomes(model, every)]
        logger.info(
            f"{model}: planned up to its mastery. If every level has facts enough, {len(every)} fine-tuned"
            f" models and {len(restored)} restored ones follow."
        )


@cache
def feasible_runs(model):
    """List the cells of a model: those of the grid whose levels hold enough facts, and those tuned elsewhere."""
    return [*feasible_grid(model), *TUNED_CELLS[model]]


@cache
def feasible_grid(model):
    """List the cells of the grid for which a model's levels hold enough facts."""
    return feasible(PLANNED_CELLS, level_counts(model)) if PLANNED_CELLS else []


def cells_with(model, name):
    """List the feasible runs of a model that have a file: steps of training only where it was trained here."""
    if name == "steps.parquet":
        return [cell for cell in feasible_grid(model) if not stops_early(cell)]
    if name == "divergence.parquet":  # a chat's first token is not that of a completion
        elsewhere = [cell for cell in TUNED_CELLS[model] if SETTINGS.models[model].tuned[cell.name].prompt == "study"]
        return [*feasible_grid(model), *elsewhere]
    return feasible_runs(model)


def files_of(model, *names):
    """List some files of every feasible run of a model, as far as the run has them."""
    cells_of = {name: set(cells_with(model, name)) for name in names}
    return [
        f"{RESULTS}/{model}/runs/{cell.run}/{name}"
        for cell in feasible_runs(model)
        for name in names
        if cell in cells_of[name]
    ]


def of_runs(name):
    """Make an input function for one file of every feasible run of a model that has it."""
    return lambda wc: files_of(wc.model, name)


def counted_levels(wildcards):
    """Return the level counts as an input to wait for. Newer counts alone make nothing stale."""
    return ancient(checkpoints.count_levels.get(model=wildcards.model).output.levels)


@cache
def drawable_digests(model):
    """Read the digests of the facts that each data kind of a model may draw."""
    from knowshift.runtime.parquet import table_metadata

    return table_metadata(level_counts(model)).get("drawable", {})


def drawable_digest(wildcards):
    """Return the digest of the facts that a data kind may draw; of known facts, the digests of their levels."""
    digests = drawable_digests(wildcards.model)
    if wildcards.data == KNOWN:
        return " ".join(str(digests.get(f"level{level}")) for level in KNOWN_LEVELS)
    return digests.get(wildcards.data)


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


def order_of(wildcards):
    """Return the path of the order that a run takes its facts from; none if it was fine-tuned elsewhere."""
    cell = cell_of(wildcards.run)
    if isinstance(cell, TunedCell):
        return []
    return f"{RESULTS}/{wildcards.model}/orders/{cell.data}-s{cell.seed}.parquet"


def replayed_of(wildcards):
    """Return the order that a run takes known facts from, to train them along; none if it trains none along."""
    cell = cell_of(wildcards.run)
    _, training = training_of(cell.method)
    return f"{RESULTS}/{wildcards.model}/orders/{KNOWN}-s{cell.seed}.parquet" if training["replay"] else []


def size_of(run):
    """Return the size of a run; None stands for all facts."""
    size = Cell.parse(run).size
    return None if size == "all" else size


@cache
def training_of(method):
    """Return what a method trains (full or lora) and its training settings."""
    kind, training = SETTINGS.finetuning.training(method)
    return kind, training.model_dump()


@cache
def recipe_of(method):
    """Return the training settings that change a method's result.

    `lora` counts where adapters are trained, and `learning_rate` where they are not, since they have their own. What
    may be added to a training needs no word where it is not.
    """
    kind, training = training_of(method)
    unused = {"learning_rate" if kind == "lora" else "lora"} | {key for key in ("l2_sp", "replay") if not training[key]}
    return {key: value for key, value in training.items() if key not in unused} | {"method": kind}


def finetune_spec(wildcards):
    """Return the spec of a run: its method's training settings, its size, its draw and the seed."""
    cell = Cell.parse(wildcards.run)
    more = {"size": size_of(wildcards.run), "name": f"s{cell.seed}", "seed": SETTINGS.seed}
    return canonical_json({**recipe_of(cell.method), **loading(SETTINGS.models[wildcards.model]), **more})


@cache
def is_restored_by_some(model, run):
    """Return whether an entry under restoration restores a run."""
    return any(is_restored(entry, model, cell_of(run)) for entry in SETTINGS.restoration)


def before_the_longest(wildcards):
    """Return the priority of a job: what the longest ones wait for, the evaluations of restored models, goes first."""
    return int(is_restored_by_some(wildcards.model, wildcards.run))


def stops_early(cell):
    """Return whether a cell of the grid is the training of another one, stopped early."""
    return trained_cell(cell, SETTINGS.finetuning) != cell


@cache
def stops_of(model):
    """Map the cells of a model that are trained and stopped early to the shares of their steps, by cell."""
    exported = [(entry.strategy, cell_of(entry.run)) for entry in SETTINGS.exports if entry.model == model]
    read = [cell for strategy, exporting in exported for cell in cells_read(strategy, exporting, SETTINGS.seeds)]
    asked = [*PLANNED_CELLS, *(cell for cell in read if isinstance(cell, Cell))]
    return stops_by_training(asked, SETTINGS.finetuning)


def stops_to_keep(wildcards, resources):
    """List the shares of a training's steps whose models it keeps, as JSON.

    Because it takes `resources`, Snakemake does not compare it: with a share less, nothing is stale; for one more, the
    checkpoint is needed anew.
    """
    return canonical_json(stops_of(wildcards.model).get(Cell.parse(wildcards.run), []))


# Runs that are trained: those of all methods but the ones that stop another's training early.
STOPPING = [name for name in (SETTINGS.finetuning.variants if GRID else ()) if SETTINGS.finetuning.stop_of(name)]
TRAINED_RUN = (f"(?!({'|'.join(STOPPING)})-)" if STOPPING else "") + GRID_RUN


rule finetune:
    input:
        base=rules.resolve_model.output.manifest,
        order=order_of,
        replayed=replayed_of,
        prompt=located(SETTINGS.facts.prompt),
    output:
        checkpoint=temp(directory(CHECKPOINT)),
        steps=f"{RESULTS}/{{model}}/runs/{{run}}/steps.parquet",
        speed=f"{RESULTS}/{{model}}/runs/{{run}}/speed.parquet",
    log:
        f"{RESULTS}/logs/finetune/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{model}}.{{run}}.tsv"
    wildcard_constraints:
        run=TRAINED_RUN,
    priority: before_the_longest
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
        save_every=SECONDS_BETWEEN_SAVES,  # seconds; what a kill without warning loses at most
        gradient_checkpointing=0,  # 1: less memory, more time, the same result
        tensorboard=0,  # 1: events beside the table of steps, while it trains
    params:
        spec=finetune_spec,
        code=digest("finetune"),
        prompt=content(SETTINGS.facts.prompt),
        stops=stops_to_keep,
        script=script("finetune"),
        launch=training_launcher,
        base=subpath(input.base, parent=True),
    message:
        "Fine-tune {wildcards.model}: {wildcards.run}"
    shell:
        "{params.launch} {params.script:q} --model {params.base:q} --order {input.order:q} --prompt {input.prompt:q}"
        " --replayed {input.replayed:q}"
        " --spec {params.spec:q} --threads {threads} --code {params.code} --save-every {resources.save_every}"
        " --gradient-checkpointing {resources.gradient_checkpointing} --tensorboard {resources.tensorboard}"
        " --stops {params.stops:q}"
        " --output {output.checkpoint:q} --steps {output.steps:q} --speed {output.speed:q} 2> {log:q}"


# With `keep_deltas: restored`, the deltas of cells that nothing restores are deleted once they are read.
PASSING = temp if KEEP_DELTAS == "restored" else lambda path: path


def checkpoint_of(wildcards):
    """Return the checkpoint that holds a run's model: that of `resolve_tuned`, or of the training that makes it.

    Raises:
        WorkflowError: no training keeps the model, because the configuration does not ask for it.
    """
    cell = cell_of(wildcards.run)
    if isinstance(cell, Cell) and stops_early(cell):
        stop, trained = SETTINGS.finetuning.stop_of(cell.method), trained_cell(cell, SETTINGS.finetuning)
        if stop.stop_at not in stops_of(wildcards.model).get(trained, []):
            raise WorkflowError(
                f"{wildcards.run}: neither the grid nor an export asks for it, so the training of {trained.run} does"
                " not keep it; add it under finetuning (methods, method_data, data, sizes, seeds)"
            )
        cell = trained
    return CHECKPOINT.format(model=wildcards.model, run=cell.run)


def stop_to_read(wildcards):
    """Return the argument that names the model in a checkpoint; nothing that Snakemake compares if it is the last."""
    cell = cell_of(wildcards.run)
    if isinstance(cell, TunedCell) or not stops_early(cell):
        return Uncompared()
    return f"--stop {plain_number(SETTINGS.finetuning.stop_of(cell.method).stop_at)}"


# Keyed to the version of the delta format and not to code: a delta is lossless, so other code gives the same model.
rule diff_weights:
    input:
        base=rules.resolve_model.output.manifest,
        checkpoint=checkpoint_of,
    output:
        delta=PASSING(directory(f"{RESULTS}/{{model}}/runs/{{run}}/delta")),
        manifest=f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
    log:
        f"{RESULTS}/logs/diff_weights/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/diff_weights/{{model}}.{{run}}.tsv"
    priority: 2  # frees the checkpoint
    conda:
        "../envs/knowshift.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
    params:
        code=DELTA_FORMAT,
        stop=stop_to_read,
        script=script("diff_weights"),
        base=subpath(input.base, parent=True),
    message:
        "Delta of {wildcards.run}"
    shell:
        "python {params.script:q} --base {params.base:q} --tuned {input.checkpoint:q} {params.stop} --threads {threads}"
        " --output {output.delta:q} --manifest {output.manifest:q} 2> {log:q}"


def kept_runs():
    """Return a regular expression for the runs whose delta is kept because something restores or exports them."""
    read = [(entry.model, entry.strategy, cell_of(entry.run)) for entry in SETTINGS.exports]
    for model in SETTINGS.models:
        for cell in [*PLANNED_CELLS, *TUNED_CELLS[model]]:
            strategies = [entry.strategy for entry in SETTINGS.restoration if is_restored(entry, model, cell)]
            read += [(model, strategy, cell) for strategy in strategies]
    kept = {
        (model, other.run) for model, strategy, cell in read for other in cells_read(strategy, cell, SETTINGS.seeds)
    }
    return "|".join(f"(?<={re.escape(f'/{model}/runs/')}){re.escape(run)}" for model, run in sorted(kept)) or "(?!)"


if KEEP_DELTAS == "restored":

    ruleorder: keep_delta > diff_weights

    use rule diff_weights as keep_delta with:
        output:
            delta=directory(f"{RESULTS}/{{model}}/runs/{{run}}/delta"),
            manifest=f"{RESULTS}/{{model}}/runs/{{run}}/delta.json",
        wildcard_constraints:
            run=kept_runs(),


def others_of(wildcards, name):
    """List a file or folder of each run of another seed that a strategy compares with; most compare with none."""
    _, *others = cells_read(wildcards.strategy, cell_of(wildcards.run), SETTINGS.seeds)
    return [f"{RESULTS}/{wildcards.model}/runs/{cell.run}/{name}" for cell in others]


def other_manifests(wildcards):
    """List the manifests of the deltas of other seeds that a strategy compares with."""
    return others_of(wildcards, "delta.json")


def other_deltas(wildcards):
    """List the deltas of other seeds that a strategy compares with; what counts of them is in their manifests."""
    return ancient(others_of(wildcards, "delta"))
