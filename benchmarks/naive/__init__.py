"""The peer of most rows: how such a tracker is usually written. Plain Django, the ORM, a synchronous view, default middleware."""
