"""Find what is wrong with an inventory, and repair it."""
