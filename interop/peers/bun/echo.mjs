// What server and client share: their options, which are JSON, and how they report.

export const options = JSON.parse(process.argv[2]);

export const say = (line) => process.stdout.write(`${line}\n`);

// Whoever started this holds the other end of the pipe.
process.stdin.resume().on('end', () => process.exit());
