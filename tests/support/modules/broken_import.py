"""A methods module with a bug at import."""

raise ValueError("the model file model.bin is corrupt")
