# Raw question files to facts.
#   needs   RAW/{train,dev,test}/TOPIC.{split}.json, an archive of them, or one table of facts; templates
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
        mem_mb=memory(500),
    params:
        spec=canonical_json(
            {"location": FACTS.path or sections.ENTITYQUESTIONS, "contents_sha256": FACTS.contents_sha256}
        ),
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
        templates=lambda wc: ancient(templates_of(wc.topic)),  # what counts of them is in `questions`
        siblings=lambda wc: ancient([templates_of(topic) for topic in siblings(wc.topic)]),
    output:
        facts=f"{RESULTS}/facts/{{topic}}.parquet",
    log:
        f"{RESULTS}/logs/build_facts/{{topic}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_facts/{{topic}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        spec=facts_spec,
        code=digest("build_facts"),
        rows=table_rows,
        questions=questions,
        script=script("build_facts"),
        source=["--table" if FACTS.source == "table" else "--raw", RAW],
    message:
        "Facts of {wildcards.topic}"
    shell:
        "python {params.script:q} {params.source:q} --templates {input.templates:q}"
        " --siblings {input.siblings:q} --spec {params.spec:q} --output {output.facts:q} 2> {log:q}"
