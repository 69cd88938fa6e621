"""``trunkline stdio --connect``: relays the messages of a framed peer to a hub that runs elsewhere."""
