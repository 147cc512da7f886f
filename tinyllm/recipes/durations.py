"""Durations as people say them."""


def format_seconds(seconds: float) -> str:
    """A duration as people say it: 8s, 1m32s, 2h05m."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
