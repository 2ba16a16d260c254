"""General-purpose code that knows nothing about hosts: values, processes, patterns, text."""
