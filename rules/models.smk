# Bring each model from its source into one folder of safetensors and tokenizer.
#   makes   MODEL/base/ with manifest.json, MODEL/instruct/model/ where a chat model is compared with, and
#           MODEL/runs/tuned-NAME/{checkpoint,files}/ of models that were fine-tuned elsewhere
# A model is tried for all that the experiment will ask of it, when it is taken over. What names of tensors tell is said
# before, when the configuration is read, of models that are there.
from knowshift.models import fitting
from knowshift.weights.model_folder import weight_set


def is_fetched(entry):
    """Say whether a model is downloaded. This happens where Snakemake runs: compute nodes may have no network."""
    return entry is not None and not any(hasattr(entry.source, kind) for kind in ("directory", "gguf", "adapter"))


if any(is_fetched(entry) for entry in SETTINGS.models.values()):

    localrules:
        resolve_model,


if any(is_fetched(entry.instruct) for entry in SETTINGS.models.values()):

    localrules:
        resolve_instruct,


def source_spec(model):
    """Return where a model comes from, and the digest of a local folder, as Snakemake does not look inside it.

    Raises:
        WorkflowError: which weights in a local folder are the model's cannot be told, or they are quantised.
    """
    source = model.source
    spec = {"source": source.model_dump()} | ({"trust_remote_code": True} if model.trust_remote_code else {})
    if isinstance(source, sections.DirectorySource):
        if Path(source.directory, "config.json").is_file():  # of anything else, the job says what it lacks
            try:
                weight_set(Path(source.directory))
            except KnowshiftError as error:
                raise WorkflowError(str(error)) from None
        spec["digest"] = directory_digest(Path(source.directory), CONTENT, model.trust_remote_code)
    if isinstance(source, sections.GgufSource):
        spec["digest"] = CONTENT.digest(Path(source.gguf))
    return canonical_json(spec)


def adapters():
    """List the settings of adapters that are trained."""
    grid = SETTINGS.finetuning
    trained = (grid.training(method) for method in (grid.methods if grid else ()))
    return [training.lora for kind, training in trained if kind == "lora"]


def expected_of(model):
    """Return the arguments that say what the experiment will ask of a model; they change nothing of it."""
    entry = SETTINGS.models[model]
    dtypes = [entry.dtype or SETTINGS.mastery.dtype, SETTINGS.answering_dtype(model)]
    return expected_arguments(
        entry,
        regions=SETTINGS.regions_of(model),
        adapters=[lora.model_dump() for lora in adapters()],
        engines=sorted({SETTINGS.mastery.engine, SETTINGS.evaluation.engine}),
        dtypes=sorted({*dtypes}),
    )


def expected_of_instruct(model):
    """Return the arguments that say what the experiment will ask of a chat model."""
    entry = SETTINGS.models[model].instruct
    chat = {"chat": entry.chat.model_dump()} if entry.prompt == "chat" else {}
    section = SETTINGS.evaluation
    return expected_arguments(entry, engines=[section.engine], dtypes=[SETTINGS.answering_dtype(model)], **chat)


def expected_arguments(entry, **expected):
    """Return what is expected as arguments that Snakemake does not compare."""
    words = ["--prompt", located(SETTINGS.facts.prompt), "--bos", entry.bos, "--attention", entry.attention]
    for name, value in expected.items():
        words += [f"--{name}", json.dumps(value)]
    return Uncompared(*words)


def stored_shapes(folder):
    """Read the shapes of the tensors in a model directory, by name; None if it is not there, or damaged.

    The job that takes the model over, or reads it, says what is wrong with its files.
    """
    try:
        return fitting.stored_shapes(Path(folder))
    except KnowshiftError:
        return None


def check_fit():
    """Check regions and adapters against the names of tensors of the models that are there, before anything runs.

    Raises:
        WorkflowError: a model has none of the tensors that the experiment compares or adapts.
    """
    for name in REPORTED:
        given = getattr(SETTINGS.models[name].source, "directory", None)
        shapes = stored_shapes(f"{RESULTS}/{name}/base") or (stored_shapes(given) if given else None)
        try:
            if shapes:
                fitting.check_names(shapes, SETTINGS.regions_of(name), [lora.targets for lora in adapters()])
        except KnowshiftError as error:
            raise WorkflowError(f"models.{name}: {error}") from None


if workflow.exec_mode == ExecMode.DEFAULT:
    check_fit()


rule resolve_model:
    output:
        manifest=f"{RESULTS}/{{model}}/base/manifest.json",
    log:
        f"{RESULTS}/logs/resolve_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/resolve_model/{{model}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory_to_try(),
    params:
        spec=lambda wc: source_spec(SETTINGS.models[wc.model]),
        expected=lambda wc: expected_of(wc.model),
        code=digest("resolve_model"),
        script=script("resolve_model"),
        base=subpath(output.manifest, parent=True),
    message:
        "Model {wildcards.model}"
    shell:
        "python {params.script:q} --spec {params.spec:q} {params.expected} --output {params.base:q} 2> {log:q}"


use rule resolve_model as resolve_instruct with:
    output:
        manifest=f"{RESULTS}/{{model}}/instruct/model/manifest.json",
    log:
        f"{RESULTS}/logs/resolve_instruct/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/resolve_instruct/{{model}}.tsv"
    resources:
        mem_mb=memory_to_try("instruct"),
    params:
        spec=lambda wc: source_spec(SETTINGS.models[wc.model].instruct),
        expected=lambda wc: expected_of_instruct(wc.model),
        code=digest("resolve_model"),
        script=script("resolve_model"),
        base=subpath(output.manifest, parent=True),
    message:
        "The chat model beside {wildcards.model}"


def tuned_model(wildcards):
    """Return the settings of a model that was fine-tuned elsewhere.

    Raises:
        WorkflowError: the configuration does not name it.
    """
    tuned, name = SETTINGS.models[wildcards.model].tuned, cell_of(wildcards.run).name
    if name not in tuned:
        raise WorkflowError(f"models.{wildcards.model}.tuned names no {name}, but {', '.join(tuned) or 'nothing'}")
    return tuned[name]


def tuned_spec(wildcards):
    """Return where a model that was fine-tuned elsewhere comes from, and the digest of a local folder."""
    model = tuned_model(wildcards)
    spec = {"source": model.source.model_dump()} | ({"trust_remote_code": True} if model.trust_remote_code else {})
    if not is_fetched(model):
        folder = Path(*model.source.model_dump().values())
        spec["digest"] = directory_digest(folder, CONTENT, model.trust_remote_code)
    return canonical_json(spec)


CHECKPOINT = f"{RESULTS}/{{model}}/runs/{{run}}/checkpoint"
TUNED_FILES = f"{RESULTS}/{{model}}/runs/{{run}}/files"

if any(is_fetched(tuned) for entry in SETTINGS.models.values() for tuned in entry.tuned.values()):

    localrules:
        resolve_tuned,


# Only headers are compared before anything is written, so a model that does not fit its base is refused in seconds.
rule resolve_tuned:
    input:
        base=rules.resolve_model.output.manifest,
    output:
        checkpoint=temp(directory(CHECKPOINT)),
        files=directory(TUNED_FILES),
    log:
        f"{RESULTS}/logs/resolve_tuned/{{model}}.{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/resolve_tuned/{{model}}.{{run}}.tsv"
    wildcard_constraints:
        run=TUNED_RUN,
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory_to_ask(3, SETTINGS.evaluation, as_trained=True),  # base, adapter, and while it is written
    params:
        spec=tuned_spec,
        code=digest("resolve_tuned"),
        script=script("resolve_tuned"),
        base=subpath(input.base, parent=True),
    message:
        "The form of its base for {wildcards.run} of {wildcards.model}"
    shell:
        "python {params.script:q} --base {params.base:q} --spec {params.spec:q} --output {output.checkpoint:q}"
        " --files {output.files:q} 2> {log:q}"


def files_of_tuned(wildcards):
    """List the folder with configuration and tokenizer of a model that was fine-tuned elsewhere; others have none.

    Its time does not count: with other files comes another delta.json.
    """
    elsewhere = isinstance(cell_of(wildcards.run), TunedCell)
    return [ancient(TUNED_FILES.format(**wildcards))] if elsewhere else []
