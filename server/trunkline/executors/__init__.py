"""The executor pool: the processes that run methods, and the hub's side of them."""
