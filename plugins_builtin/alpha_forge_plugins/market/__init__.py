"""Market data sources: exchanges, and files of recorded bars."""
