"""Forms of a finished run for other programs, a file each: JUnit, tables as CSV and Parquet, LaTeX, RobustBench, CycloneDX."""
