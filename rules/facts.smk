# Raw question files to facts.
#   needs   RAW/{train,dev,test}/TOPIC.{split}.json, templates
#   makes   facts/TOPIC.parquet


rule build_facts:
    input:
        raw=lambda wc: [
            f"{resource(FACTS.raw)}/{split}/{topic}.{split}.json"
            for topic in siblings(wc.topic)
            for split in SPLITS["in_domain"]
        ],
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
        spec=lambda wc: canonical_json({"domain": DOMAIN_OF[wc.topic]}),
        code=digest("build_facts"),
        script=script("build_facts"),
        raw=resource(FACTS.raw),
    message:
        "Facts of {wildcards.topic}"
    shell:
        "python {params.script:q} --raw {params.raw:q} --templates {input.templates:q}"
        " --siblings {input.siblings:q} --spec {params.spec:q} --output {output.facts:q} 2> {log:q}"
