"""How fast a provider is asked: concurrency, rate limits, retries."""
