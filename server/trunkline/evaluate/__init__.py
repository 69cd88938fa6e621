"""How well retrieval finds what answers a question: question files, the ways to search, the usual measures."""
