"""Read and write files of other systems, manifests, and whole inventories as TOML."""
