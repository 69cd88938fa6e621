"""``trunkline top``: a hub's monitoring events and figures as a live table in the terminal."""
