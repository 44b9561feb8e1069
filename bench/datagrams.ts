import { createSocket } from 'node:dgram';

/**
 * One end of a stream of datagrams: `send ADDRESS` sends one every millisecond, `receive` prints the monotonic
 * time of each one received, in nanoseconds.
 */

const port = 9999;
const [mode, address] = process.argv.slice(2);
const socket = createSocket('udp4');
if (mode === 'receive') {
  socket.on('message', () => process.stdout.write(`${process.hrtime.bigint()}\n`));
  socket.bind(port, () => process.stdout.write('ready\n'));
} else {
  // Without a route to the receiver a datagram is lost like any other.
  socket.on('error', () => undefined);
  setInterval(() => socket.send('probe', port, address, () => undefined), 1);
}
