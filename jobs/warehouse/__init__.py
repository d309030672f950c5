"""The work and its money as files that a columnar store loads: ClickHouse, BigQuery, DuckDB."""
