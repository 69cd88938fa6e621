"""``trunkline doctor --bundle``: one archive with what is needed to understand a hub, and no secret in it."""
