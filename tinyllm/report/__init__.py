"""Showing what was measured: pages, curves, and what a run folder tells.

run_record.py  what is in a run folder       run.py     its page          page.py, page_charts.py  what pages are made of
rl.py          a page for runs of rlhf       reward.py  a reward model's  rl_curves.py, diagnosis.py  what they show, and warn of
chart.py       figures as SVG                curves.py  a run's, smoothed         profile.py, flame.py  where a step's time goes
"""

from tinyllm.report.run import write_report

__all__ = ["write_report"]
