"""Write hosts for other systems: one module for each format."""
