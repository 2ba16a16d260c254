"""The command line: parse options, call one use case, hand the result to ``output``."""
