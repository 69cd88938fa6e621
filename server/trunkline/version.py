"""The one place the product's version is written. The wire version is separate (see SPEC.md)."""

__version__ = "0.1.0"
