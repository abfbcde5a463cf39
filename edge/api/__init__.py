"""The HTTP API of the agent, as OpenAI's clients know it: chats, completions, models."""
