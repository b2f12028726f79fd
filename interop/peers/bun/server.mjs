// server.mjs OPTIONS: echoes on a free port, which it prints.

import { options, say } from './echo.mjs';

const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch(request, server) {
        if (!server.upgrade(request)) return new Response('a WebSocket server', { status: 426 });
    },
    websocket: {
        maxPayloadLength: 64 << 20,
        backpressureLimit: 64 << 20,
        ...options,
        message(socket, message) {
            socket.send(message, true); // compressed, if that was agreed
        },
        close(_socket, code) {
            say(`closed ${code}`);
        },
    },
});
say(`listening ${server.port}`);
