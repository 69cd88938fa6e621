"""Tests of trunkline.storage."""
