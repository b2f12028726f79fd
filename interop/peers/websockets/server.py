"""server.py OPTIONS: echoes on a free port, which it prints."""

import asyncio

from echo import arguments, echo, end_with_stdin, say
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def main():
    async with serve(echo, "127.0.0.1", 0, **arguments(ServerPerMessageDeflateFactory)) as server:
        say(f"listening {server.sockets[0].getsockname()[1]}")
        await server.serve_forever()


end_with_stdin()
asyncio.run(main())
