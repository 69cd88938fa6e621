"""Conversations: questions and answers of principals, on disk, bounded, exported and deleted with their owner."""
