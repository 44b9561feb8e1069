import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

/**
 * Speaks and serves TCP and UDP, for tests: a server says to each client which address it sees it under.
 *
 *     talk.ts serve PORT [NAME]             both, on all addresses
 *     talk.ts ask PROTOCOL ADDRESS PORT     prints the answer; status 1 if there is none within a second
 *     talk.ts go-on ADDRESS PORT            sends a datagram each fifth of a second, always from one socket
 *     talk.ts listen PROTOCOL ADDRESS PORT  only holds the port, or says why it cannot
 */

const [mode, ...rest] = process.argv.slice(2);
if (mode === 'serve') serve(Number(rest[0]), rest[1]);
if (mode === 'ask') ask(rest);
if (mode === 'go-on') goOn(rest);
if (mode === 'listen') hold(rest);

function serve(port: number, name = 'hello'): void {
  const seen = (address: string | undefined) => `${name} ${(address ?? '').replace('::ffff:', '')}`;
  createServer((client) => {
    client.on('error', () => undefined);
    client.end(seen(client.remoteAddress));
  }).listen(port, '::');
  const datagrams = createSocket('udp6');
  datagrams.on('message', (_, client) =>
    datagrams.send(seen(client.address), client.port, client.address),
  );
  datagrams.bind(port, '::');
}

function ask([protocol, address = '', port]: readonly string[]): void {
  const give = setTimeout(() => process.exit(1), 1000);
  if (protocol === 'tcp') {
    const server = connect({ host: address, port: Number(port) });
    server.on('data', (answer) => process.stdout.write(answer));
    server.on('error', () => process.exit(1));
    server.on('close', () => clearTimeout(give));
    return;
  }
  const socket = datagramSocket(address);
  socket.on('message', (answer) => process.stdout.write(answer, () => process.exit(0)));
  socket.send('?', Number(port), address);
}

function goOn([address = '', port]: readonly string[]): void {
  const socket = datagramSocket(address);
  socket.on('message', (answer) => process.stdout.write(`${answer.toString()}\n`));
  setInterval(() => socket.send('?', Number(port), address), 200);
}

function datagramSocket(address: string) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  // A rejected datagram counts as no response.
  socket.on('error', () => undefined);
  return socket;
}

function hold([protocol, address, port]: readonly string[]): void {
  const failed = (error: Error) => {
    process.stdout.write(error.message);
    process.exit(1);
  };
  const ready = () => process.stdout.write('ready');
  if (protocol === 'tcp') {
    createServer().on('error', failed).listen(Number(port), address, ready);
  } else {
    createSocket(address?.includes(':') === true ? 'udp6' : 'udp4')
      .on('error', failed)
      .bind(Number(port), address, ready);
  }
}
