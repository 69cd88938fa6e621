"""Access control: Host and Origin allow-lists, tokens, JSON Web Tokens, and the rights that they grant."""
