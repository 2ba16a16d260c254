"""The child of ``run``: its environment, its process group, its signals, the lease that is renewed meanwhile."""
