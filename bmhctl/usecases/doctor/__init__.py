"""Find problems in an inventory, and fix them."""
