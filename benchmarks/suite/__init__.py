"""The modules that the benchmark commands share."""
