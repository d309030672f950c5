"""From a LiteLLM proxy to this platform: its configuration and its tables, read and carried over."""
