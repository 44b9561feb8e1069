import { connect, createServer } from 'node:net';

/** Runs inside a machine's network: what connects to 127.0.0.1:3128 there is handed to a socket file here. */
const [, , socketFile = ''] = process.argv;
createServer((inside) => {
  const outside = connect(socketFile);
  inside.pipe(outside).pipe(inside);
  for (const [one, other] of [
    [inside, outside],
    [outside, inside],
  ] as const) {
    one.on('error', () => other.destroy());
  }
}).listen(3128, '127.0.0.1', () => process.stdout.write('ready\n'));
