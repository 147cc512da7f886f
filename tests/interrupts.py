"""Ctrl-C for a program that a test starts: what runs in the background of a shell is begun with SIGINT ignored."""

import signal


def heed_ctrl_c() -> None:
    """Give SIGINT its ordinary meaning; for Popen's preexec_fn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
