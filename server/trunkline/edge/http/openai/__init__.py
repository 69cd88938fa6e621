"""The doors at ``/v1/`` for clients of OpenAI's API: chat completions, embeddings, and the list of models."""
