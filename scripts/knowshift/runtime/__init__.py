"""Code that changes no result: errors, artefacts, Parquet files, resumption, device leases, progress."""
