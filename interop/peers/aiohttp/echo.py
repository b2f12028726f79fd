"""What server and client share: their options, how they report, and the echo."""

import json
import os
import sys
import threading

from aiohttp import WSMsgType

# {"protocols": [...], "compress": bool}
OPTIONS = json.loads(sys.argv[1])


def say(line):
    print(line, flush=True)


async def echo(socket):
    """Echoes until either end closes; pings or closes when it is told so."""
    reason = ""
    while True:
        message = await socket.receive()
        match message.type:
            case WSMsgType.TEXT if message.data.startswith("close "):
                _, code, reason = message.data.split(" ")
                await socket.close(code=int(code), message=reason.encode())
                break
            case WSMsgType.TEXT if message.data == "ping":
                await socket.ping("在吗".encode())
                await socket.send_str("pinged")
            case WSMsgType.TEXT:
                await socket.send_str(message.data)
            case WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            case WSMsgType.CLOSE:
                reason = message.extra
                await socket.close()
                break
            case kind:
                say(f"error {kind} {message.data}")
                break
    say(f"closed {socket.close_code} {reason or ''}".rstrip())


def end_with_stdin():
    """Whoever started this holds the other end of the pipe."""

    def wait():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
