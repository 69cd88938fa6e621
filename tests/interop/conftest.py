"""What these tests share with those of methods."""

from tests.support.tiny_model import tiny_model

__all__ = ["tiny_model"]
