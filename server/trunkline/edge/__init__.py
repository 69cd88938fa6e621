"""The doors: thin translations between a transport and the hub."""
