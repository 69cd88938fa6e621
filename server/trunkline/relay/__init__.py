"""``trunkline stdio --connect``: carries the messages of a framed peer to a hub that runs elsewhere."""
