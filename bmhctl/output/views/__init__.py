"""How each kind of result is shown, in every format: one module per kind."""
