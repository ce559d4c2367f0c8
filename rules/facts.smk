# Raw question files to facts.
#   needs   RAW/{train,dev,test}/TOPIC.{split}.json or an archive of them, templates
#   makes   raw/ (from an archive), facts/TOPIC.parquet
localrules:
    retrieve_entityquestions,


rule retrieve_entityquestions:
    output:
        manifest=f"{RESULTS}/raw/manifest.json",
    log:
        f"{RESULTS}/logs/retrieve_entityquestions.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=500,
    params:
        spec=canonical_json(FACTS.archive.model_dump() if FACTS.archive else {}),
        code=digest("retrieve_entityquestions"),
        script=script("retrieve_entityquestions"),
        raw=subpath(output.manifest, parent=True),
        downloads=f"{RESULTS}/downloads",
    message:
        "Fetch the raw questions"
    shell:
        "python {params.script:q} --spec {params.spec:q} --downloads {params.downloads:q} --output {params.raw:q} 2> {log:q}"


rule build_facts:
    input:
        raw=lambda wc: raw_files(wc.topic),
        templates=lambda wc: templates_of(wc.topic),
        siblings=lambda wc: [templates_of(topic) for topic in siblings(wc.topic)],
    output:
        facts=f"{RESULTS}/facts/{{topic}}.parquet",
    log:
        f"{RESULTS}/logs/build_facts/{{topic}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_facts/{{topic}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=500,
    params:
        spec=lambda wc: canonical_json({"domain": DOMAIN_OF[wc.topic], "on_bad_rows": FACTS.on_bad_rows}),
        code=digest("build_facts"),
        script=script("build_facts"),
        raw=RAW,
    message:
        "Facts of {wildcards.topic}"
    shell:
        "python {params.script:q} --raw {params.raw:q} --templates {input.templates:q}"
        " --siblings {input.siblings:q} --spec {params.spec:q} --output {output.facts:q} 2> {log:q}"
