# Bring each model from its source into one folder of safetensors and tokenizer.
#   makes   MODEL/base/ with manifest.json, and MODEL/instruct/model/ where a chat model is compared with
from knowshift.weights.model_folder import weight_set


def is_fetched(entry):
    """Say whether a model is downloaded. This happens where Snakemake runs: compute nodes may have no network."""
    return entry is not None and not isinstance(entry.source, sections.DirectorySource)


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
