"""SaaS LiteLLM: sell LLM-powered work, with the money exact. The only package that sees every app."""
