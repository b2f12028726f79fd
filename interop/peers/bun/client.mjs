// client.mjs OPTIONS URL: echoes until the server closes.

import { options, say } from './echo.mjs';

const socket = new WebSocket(process.argv[3], options);
socket.binaryType = 'arraybuffer';
socket.onmessage = ({ data }) => socket.send(data);
socket.onerror = ({ message }) => say(`error ${message}`);
socket.onclose = ({ code }) => {
    say(`closed ${code}`);
    process.exit();
};
