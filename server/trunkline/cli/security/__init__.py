"""``trunkline doctor --security``: what of settings, files and process makes a hub less safe than it could be."""
