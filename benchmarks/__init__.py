"""One file or folder a subject: check the result, then time it, beside its peer where the peer is installed."""
