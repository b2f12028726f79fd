"""What server and client share: their options, how they report, and the echo."""

import json
import os
import sys
import threading

from websockets.exceptions import ConnectionClosedError

OPTIONS = json.loads(sys.argv[1])


def arguments(factory):
    """For `serve` and `connect`: {"deflate": PARAMETERS}, {"deflate": false}, or the library's default."""
    common = {"max_size": None, "ping_interval": None}
    match OPTIONS.get("deflate"):
        case None:
            return common
        case False:
            return common | {"compression": None}
        case parameters:
            return common | {"compression": None, "extensions": [factory(**parameters)]}


def say(line):
    print(line, flush=True)


async def echo(socket):
    """Echoes until the connection ends, in fragments of `fragment` characters or bytes if that is given."""
    fragment = OPTIONS.get("fragment")
    try:
        async for message in socket:
            if fragment and len(message) > fragment:
                message = [message[start : start + fragment] for start in range(0, len(message), fragment)]
            await socket.send(message)
    except ConnectionClosedError:
        pass  # said below
    await socket.wait_closed()
    say(f"closed {socket.close_code} {socket.close_reason}".rstrip())


def end_with_stdin():
    """Whoever started this holds the other end of the pipe."""

    def wait():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
