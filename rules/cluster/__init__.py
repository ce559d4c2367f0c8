"""Jobs on a cluster: how they are started, and those that outlive their Snakemake."""
