// What server and client share: their options, how they report, and the echo.

// JSON: what `ws` takes, and `fragment`, the bytes of a fragment of what is echoed.
export const { fragment, ...options } = JSON.parse(process.argv[2]);

export const say = (line) => process.stdout.write(`${line}\n`);

// Whoever started this holds the other end of the pipe.
process.stdin.resume().on('end', () => process.exit());

export function echo(socket) {
    socket.on('message', (data, binary) => {
        let start = 0;
        while (fragment && data.length - start > fragment) {
            socket.send(data.subarray(start, start + fragment), { binary, fin: false });
            start += fragment;
        }
        socket.send(data.subarray(start), { binary, fin: true });
    });
    socket.on('error', (error) => say(`error ${error.message}`));
    socket.on('close', (code) => say(`closed ${code}`));
}
