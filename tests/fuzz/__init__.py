"""Fuzzing. Each target is a module with ``SEEDS`` (inputs to start from, and every input that once failed) and
``check(data)``, which raises on a bug. ``make fuzz`` drives them with atheris; pytest drives the same ``check``
with Hypothesis and runs the seeds, so that neither needs atheris.
"""
