"""client.py OPTIONS URL: echoes until either end closes."""

import asyncio
import sys

from aiohttp import ClientSession
from echo import OPTIONS, echo, end_with_stdin


async def main():
    compress = 15 if OPTIONS["compress"] else 0
    async with (
        ClientSession() as session,
        session.ws_connect(
            sys.argv[2], protocols=OPTIONS["protocols"], compress=compress, max_msg_size=0, autoclose=False
        ) as socket,
    ):
        await echo(socket)


end_with_stdin()
asyncio.run(main())
