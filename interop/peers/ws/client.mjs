// client.mjs OPTIONS URL: echoes until the server closes.

import { WebSocket } from 'ws';
import { echo, options } from './echo.mjs';

const socket = new WebSocket(process.argv[3], options);
echo(socket);
socket.on('close', () => process.exit());
