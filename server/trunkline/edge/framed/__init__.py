"""Framed peers: peers that send frames over a stream of bytes, through standard input and output or a Unix socket."""
