"""Jobs: calls of idempotent methods that outlive their caller, their executor and the hub (SPEC.md, Jobs)."""
