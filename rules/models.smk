# Where each model comes from, to one folder of safetensors and tokenizer.
#   makes   MODEL/base/ with manifest.json, and MODEL/instruct/model/ where a chat model is compared with
if any(is_fetched(entry) for entry in SETTINGS.models.values()):

    localrules:
        resolve_model,


if any(is_fetched(entry.instruct) for entry in SETTINGS.models.values()):

    localrules:
        resolve_instruct,


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
