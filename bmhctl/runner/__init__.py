"""The task of ``run``: its process and signals, its environment, the renewal of its lease."""
