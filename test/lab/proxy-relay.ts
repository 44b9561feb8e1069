import { connect, createServer } from 'node:net';

/** Runs in a machine's network: forwards connections to 127.0.0.1:3128 to a socket file of the tests. */
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
