"""What counts for no result: errors, artefacts, Parquet files, resumption, device leases, progress."""
