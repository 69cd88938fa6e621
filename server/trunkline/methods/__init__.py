"""Methods: the decorator, what runs them, and one folder a pack."""
