"""What can be wrong with data, raw or in shards, and what to do about it."""
