"""The doors: endpoints where peers connect, each a thin translation between one transport and the hub."""
