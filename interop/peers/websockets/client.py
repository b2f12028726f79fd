"""client.py OPTIONS URL: echoes until the server closes."""

import asyncio
import sys

from echo import arguments, echo, end_with_stdin
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


async def main():
    async with connect(sys.argv[2], proxy=None, **arguments(ClientPerMessageDeflateFactory)) as socket:
        await echo(socket)


end_with_stdin()
asyncio.run(main())
