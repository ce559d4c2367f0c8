# Raw question files to facts.
#   needs   RAW/{train,dev,test}/TOPIC.{split}.json, templates
#   makes   facts/TOPIC.parquet
DOMAINS = {"in_domain": FACTS.in_domain, "out_of_domain": FACTS.out_of_domain}
DOMAIN_OF = {topic: domain for domain, topics in DOMAINS.items() for topic in topics}


@cache
def siblings(topic):
    """The topics that ask the same question, in the order of the configuration: they must not share a fact."""

    def question(name):
        return configuration.read_topic_templates(Path(templates_of(name))).question

    return [other for other in DOMAINS[DOMAIN_OF[topic]] if question(other) == question(topic)]


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
    params:
        spec=lambda wc: canonical_json({"domain": DOMAIN_OF[wc.topic]}),
        code=digest("build_facts"),
        raw=resource(FACTS.raw),
    resources:
        mem_mb=500,
    conda:
        "../envs/knowshift.yaml"
    message:
        "Facts of {wildcards.topic}"
    shell:
        "python {SCRIPTS}/build_facts.py --raw {params.raw:q} --templates {input.templates:q}"
        " --siblings {input.siblings:q} --spec {params.spec:q} --output {output.facts:q} 2> {log:q}"
