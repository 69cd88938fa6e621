"""A hub in the process of your tests: the real one, with your functions as its methods, and faults on command."""

try:
    from trunkline.testing.mock_hub import MockHub
    from trunkline.testing.script import MockCall
except ModuleNotFoundError as missing:
    if not (missing.name or "").startswith("trunkline."):
        raise
    raise ImportError(
        "trunkline.testing runs a hub, and the package installed here, trunkline-client, is the client alone: for "
        "tests install trunkline itself in its place (pip uninstall trunkline-client, then pip install trunkline)"
    ) from missing

__all__ = ["MockCall", "MockHub"]
