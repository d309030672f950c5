"""Client protocols other than OpenAI's chat, as pure translations to and from it."""
