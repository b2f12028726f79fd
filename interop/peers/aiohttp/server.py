"""server.py OPTIONS: echoes on a free port, which it prints."""

import asyncio

from aiohttp import web
from echo import OPTIONS, echo, end_with_stdin, say


async def serve(request):
    socket = web.WebSocketResponse(
        protocols=OPTIONS["protocols"], compress=OPTIONS["compress"], max_msg_size=0, autoclose=False
    )
    await socket.prepare(request)
    await echo(socket)
    return socket


async def main():
    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(f"listening {runner.addresses[0][1]}")
    await asyncio.Event().wait()


end_with_stdin()
asyncio.run(main())
