// server.mjs OPTIONS: echoes on a free port, which it prints.

import { WebSocketServer } from 'ws';
import { echo, options, say } from './echo.mjs';

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options });
server.on('listening', () => say(`listening ${server.address().port}`));
server.on('connection', echo);
