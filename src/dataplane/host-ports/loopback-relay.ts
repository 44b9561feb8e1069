import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { familyOf, type IpAddress } from '../../ip/address.ts';

/** Target of relayed traffic: a container. */
export interface RelayTarget {
  readonly address: IpAddress;
  readonly port: number;
}

const loopback = '::1';
const idleMs = 60_000;

/**
 * Relays one accepted TCP connection. The kernel does not translate connections to `::1`, so this process relays them;
 * a connection to any other address has bypassed our rules, and is closed.
 */
export function relayConnection(client: Socket, target: RelayTarget | undefined): void {
  if (target === undefined || client.localAddress !== loopback) return void client.destroy();
  const upstream = connect({ host: target.address, port: target.port, allowHalfOpen: true });
  const end = () => {
    client.destroy();
    upstream.destroy();
  };
  for (const socket of [client, upstream]) {
    socket.setNoDelay(true);
    socket.on('error', end);
    // A relayed connection must not keep this process alive.
    socket.unref();
  }
  client.pipe(upstream);
  upstream.pipe(client);
  client.once('close', end);
  upstream.once('close', end);
}

/**
 * Relays datagrams of clients on `::1` to the target, and replies back. A client that is silent for a minute is
 * forgotten. Ends when the server socket closes.
 */
export function relayDatagrams(server: DatagramSocket, target: RelayTarget): void {
  const upstreams = new Map<number, { readonly socket: DatagramSocket; timer: NodeJS.Timeout }>();
  const forget = (port: number) => {
    upstreams.get(port)?.socket.close();
    upstreams.delete(port);
  };
  const expire = (port: number) => setTimeout(() => forget(port), idleMs).unref();
  const open = (port: number) => {
    const socket = createSocket(familyOf(target.address) === 4 ? 'udp4' : 'udp6');
    socket.unref();
    socket.on('message', (answer) => server.send(answer, port, loopback));
    socket.on('error', () => forget(port));
    const upstream = { socket, timer: expire(port) };
    upstreams.set(port, upstream);
    return upstream;
  };
  server.on('message', (datagram, { address, port }) => {
    if (address !== loopback) return;
    const upstream = upstreams.get(port) ?? open(port);
    clearTimeout(upstream.timer);
    upstream.timer = expire(port);
    upstream.socket.send(datagram, target.port, target.address);
  });
  server.once('close', () => {
    for (const { socket, timer } of upstreams.values()) {
      clearTimeout(timer);
      socket.close();
    }
    upstreams.clear();
  });
}
