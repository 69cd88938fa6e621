"""The executor pool: processes that run methods, and the hub's side of them."""
