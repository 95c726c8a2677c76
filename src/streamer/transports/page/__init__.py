"""The page at `/`: streams a browser's microphone to the server, shows the results and plays audio out."""

from __future__ import annotations

from importlib.resources import files

from aiohttp import web

from streamer.transports.http import Handler

_FILES = {
    "": ("index.html", "text/html"),
    "page/style.css": ("style.css", "text/css"),
    "page/page.js": ("page.js", "text/javascript"),
    "page/icon.svg": ("icon.svg", "image/svg+xml"),
    "page/words.js": ("words.js", "text/javascript"),
    "page/capture.js": ("capture.js", "text/javascript"),
    "page/hearing.js": ("hearing.js", "text/javascript"),
    "page/playback.js": ("playback.js", "text/javascript"),
}

_HEADERS = {
    # Nothing is loaded from elsewhere, and the page, which may use the microphone, cannot be framed.
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


def routes(upgrade: Handler | None = None) -> list[web.RouteDef]:
    """Return the routes of the page and its parts, which are read once.

    `upgrade`: answers requests at `/` for an upgrade to WebSocket; None: they get the page.
    """
    return [_route(path, *_FILES[path], None if path else upgrade) for path in _FILES]


def _route(path: str, name: str, content_type: str, upgrade: Handler | None) -> web.RouteDef:
    body = files(__package__).joinpath(name).read_bytes()

    async def serve(request: web.Request) -> web.StreamResponse:
        if upgrade is not None and request.headers.get("Upgrade", "").lower() == "websocket":
            return await upgrade(request)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)

    return web.get(f"/{path}", serve)
