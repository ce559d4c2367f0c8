# Bring each model from its source into one folder of safetensors and tokenizer.
#   makes   MODEL/base/ with manifest.json, MODEL/instruct/model/ where a chat model is compared with, and
#           MODEL/runs/tuned-NAME/{checkpoint,files}/ of models that were fine-tuned elsewhere
from knowshift.weights.model_folder import weight_set


def is_fetched(entry):
    """Say whether a model is downloaded. This happens where Snakemake runs: compute nodes may have no network."""
    return entry is not None and not hasattr(entry.source, "directory") and not hasattr(entry.source, "adapter")


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
    return canonical_json(spec)


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
        mem_mb=memory(4000),
    params:
        spec=lambda wc: source_spec(SETTINGS.models[wc.model]),
        code=digest("resolve_model"),
        script=script("resolve_model"),
        base=subpath(output.manifest, parent=True),
    message:
        "Model {wildcards.model}"
    shell:
        "python {params.script:q} --spec {params.spec:q} --output {params.base:q} 2> {log:q}"


use rule resolve_model as resolve_instruct with:
    output:
        manifest=f"{RESULTS}/{{model}}/instruct/model/manifest.json",
    log:
        f"{RESULTS}/logs/resolve_instruct/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/resolve_instruct/{{model}}.tsv"
    params:
        spec=lambda wc: source_spec(SETTINGS.models[wc.model].instruct),
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
