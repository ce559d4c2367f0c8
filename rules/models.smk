# Where each model comes from, to one folder of safetensors and tokenizer.
#   makes   MODEL/base/ with manifest.json
def source_spec(model):
    """A model's source; of a local folder also a digest, because Snakemake does not look inside it."""
    source = SETTINGS.models[model].source
    spec = {"source": source.model_dump()}
    if isinstance(source, configuration.DirectorySource):
        spec["source"]["digest"] = provenance.directory_digest(Path(source.directory))
    return canonical_json(spec)


rule resolve_model:
    output:
        manifest=f"{RESULTS}/{{model}}/base/manifest.json",
    log:
        f"{RESULTS}/logs/resolve_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/resolve_model/{{model}}.tsv"
    params:
        spec=lambda wc: source_spec(wc.model),
        code=digest("resolve_model"),
        base=subpath(output.manifest, parent=True),
    resources:
        mem_mb=4000,
    conda:
        "../envs/knowshift.yaml"
    message:
        "Model {wildcards.model}"
    shell:
        "python {SCRIPTS}/resolve_model.py --spec {params.spec:q} --output {params.base:q} 2> {log:q}"
