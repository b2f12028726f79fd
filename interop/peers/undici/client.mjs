// client.mjs OPTIONS URL: echoes until either end closes, and closes when it is told so.

import { WebSocket } from 'undici';

// {"protocols": [...]}
const { protocols } = JSON.parse(process.argv[2]);

const say = (line) => process.stdout.write(`${line}\n`);

// Whoever started this holds the other end of the pipe.
process.stdin.resume().on('end', () => process.exit());

const socket = new WebSocket(process.argv[3], protocols);
socket.binaryType = 'arraybuffer';
socket.onmessage = ({ data }) => {
    if (typeof data === 'string' && data.startsWith('close ')) {
        const [, code, reason] = data.split(' ');
        socket.close(Number(code), reason);
    } else {
        socket.send(data);
    }
};
socket.onerror = ({ message }) => say(`error ${message}`);
socket.onclose = ({ code, reason }) => {
    say(`closed ${code} ${reason}`.trimEnd());
    process.exit();
};
