"""Other people's files in and out: Metal3 manifests, and a whole inventory as TOML."""
