"""What tests of methods share."""

from tests.support.tiny_model import tiny_model

__all__ = ["tiny_model"]
