"""Where events are stored and in what order: the contract, and its implementations."""
