"""The labeler's page as an ASGI application: six routes, and nothing else is there.

    GET /  /label.css  /label.js       the page, from inside the package: no path of a request ever reaches the disk
    GET /api/session                   the page's token for POST, and the labeler's name if one was given
    GET /api/task?labeler=&position=   what to show
    POST /api/label                    a label; the answer comes when it is on the disk

Everything runs on one thread, one request after the other: a label waits for the disk, and the next one for it.
"""

from importlib import resources
from typing import Any

from tinyllm.labels.items import MOST_ANSWERS
from tinyllm.labels.store import FLAGS, HIGHEST, LONGEST_KEY, LONGEST_NAME, LOWEST
from tinyllm.server.labeling import Labeling
from tinyllm.server.security import Access, App, Guard, Refused
from tinyllm.server.validation import Flag, ListOf, Text, Whole, read_json, validate, validate_query

ASSETS = {"/": ("label.html", "text/html"), "/label.css": ("label.css", "text/css"), "/label.js": ("label.js", "text/javascript")}
MOST_TASKS = 10_000_000

TASK_RULES = {"labeler": Text(LONGEST_NAME), "position": Whole(0, MOST_TASKS)}
LABEL_RULES: dict[str, Any] = {
    "labeler": Text(LONGEST_NAME),
    "position": Whole(0, MOST_TASKS),
    "task": Text(16, "[0-9a-f]{16}"),
    "key": Text(LONGEST_KEY, "[A-Za-z0-9-]{8,64}"),
    "ratings": ListOf(Whole(LOWEST, HIGHEST), 2, MOST_ANSWERS, or_null=True),
    **{flag: ListOf(Flag(), 2, MOST_ANSWERS) for flag in FLAGS},
}


def make_app(labeling: Labeling, access: Access, *, labeler: str = "") -> App:
    """The application behind its guard. `labeler`: who is asked for no name. ImportError without starlette."""
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def refused(request: Request, error: Exception) -> JSONResponse:
        status, text = (error.status, error.text) if isinstance(error, Refused) else (400, "the request broke off")
        return JSONResponse({"error": text}, status_code=status)

    async def session(request: Request) -> JSONResponse:
        return JSONResponse({"token": access.page_token, "labeler": labeler})

    async def task(request: Request) -> JSONResponse:
        asked = validate_query(request.query_params.multi_items(), TASK_RULES, optional=("position",))
        return JSONResponse(labeling.task(asked["labeler"], asked.get("position")))

    async def label(request: Request) -> JSONResponse:
        body = validate(await read_json(request.stream()), LABEL_RULES)
        return JSONResponse(labeling.save(body.pop("labeler"), body))

    routes = [Route(path, _asset(*names), methods=["GET"]) for path, names in ASSETS.items()]
    routes += [
        Route("/api/session", session, methods=["GET"]),
        Route("/api/task", task, methods=["GET"]),
        Route("/api/label", label, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={Refused: refused, ClientDisconnect: refused})
    app.router.redirect_slashes = False
    return Guard(app, access)


def _asset(name: str, kind: str) -> Any:
    """A handler that answers with a file of the package, read once."""
    from starlette.requests import Request
    from starlette.responses import Response

    content = resources.files("tinyllm.server").joinpath("static", name).read_bytes()

    async def asset(request: Request) -> Response:
        return Response(content, media_type=kind)

    return asset
