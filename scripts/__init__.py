"""What `make` runs over the sources: budgets and pictures of the structure."""
