"""What one can do with an inventory: each use case is a short function over a context, and returns a result."""
