"""Local web pages. They need the extra `serve` (starlette and uvicorn): pip install -e '.[serve]'.

security.py    who may ask: host, origin, token, headers     validation.py   what may be asked: one validator for every field
labeling.py    the labeler's work, without a web             labeler_app.py  the same as a page: routes and static files
launch.py      a socket, an address to open, a server

A page on this machine is reachable by every site its owner visits, and what a model wrote is a stranger's text. So nobody
gets in without the token printed at the start, and no text ever becomes markup (notes in security.py and static/label.js).
"""

from tinyllm.server.labeling import Labeling
from tinyllm.server.launch import Launch, open_launch
from tinyllm.server.security import Access, Guard, Refused

__all__ = ["Access", "Guard", "Labeling", "Launch", "Refused", "open_launch"]
