"""Peers that speak frames over a stream of bytes: standard input and output, Unix sockets."""
