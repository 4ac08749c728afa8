"""The same graph over history: whole arrays where the plugin kinds allow it, bar by bar where they do not."""
