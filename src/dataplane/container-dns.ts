import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { statSync } from 'node:fs';
import { createServer, Socket, type Server } from 'node:net';
import { parseAddress } from '../ip/address.ts';
import { DnsFrames, frame } from './dns-frames.ts';
import { errnoName, refused } from './netlink/errno.ts';
import {
  addressFamilies,
  boundPort,
  closeOnExec,
  datagramSocket,
  socketLevel,
  socketName,
  streamSocket,
} from './netlink/ip-socket.ts';
import type { Libc } from './netlink/libc.ts';
import { inNetworkNamespace } from './netlink/network-namespace.ts';
import { redirectDns } from './netlink/nftables-redirect.ts';
import { isRefusal, NetlinkSocket } from './netlink/socket.ts';

/** Docker's name server in every container on a network other than the default bridge. */
const server = parseAddress('127.0.0.11');
const dnsPort = 53;
/** The least length of a DNS message. Source: RFC 1035, 4.1.1. */
const headerBytes = 12;
/**
 * The source of forwarded queries. With 127.0.0.1, the source of clients, a query could have the source port of a
 * recent one, and the kernel would treat it as the same connection: redirected or not, as that one was.
 */
const forwardedFrom = parseAddress('127.0.0.12');
/** Ports of our sockets: from this one on, so many. */
const firstPort = 20_000;
const portCount = 10_000;
const table = 'calico-names';
/** Marks the queries that this process forwards. Any other value would do; only our own rule reads it. */
const forwardedMark = 0x0ca11c0;

/** Docker gives up after 4 s for each of at most three servers. */
const answerMs = 12_000;
const idleMs = 10_000;
/** Queries that wait for Docker's response: those of one container must leave room for the others. */
const maxForwarded = 4096;
const maxForwardedOfContainer = 512;
const maxConnections = 64;
/** Many times what programs send. More would take this process away from its other work. */
export const maxQueriesPerSecond = 5000;

type Answer = Buffer | undefined;

/** Returns the response to a query, perhaps later; `undefined`: Docker's name server shall respond. Never rejects. */
export type AnswerDns = (query: Buffer, transport: 'udp' | 'tcp') => Answer | Promise<Answer>;

/** The queries of all containers that wait for Docker's response, limited in number because each has a socket. */
export class ForwardedQueries {
  #count = 0;

  /** Returns whether there may be one more; then `end` must follow. */
  begin(): boolean {
    if (this.#count >= maxForwarded) return false;
    this.#count++;
    return true;
  }

  end(): void {
    this.#count--;
  }
}

/** A container whose queries are received. */
export interface ServedContainer {
  /** Reports whether the namespace at the path is still the one that is served. */
  isCurrent(): boolean;
  /** Ends the redirect only: queries that were received are still answered. */
  endRedirect(): Promise<void>;
  /** Ends the redirect, then the sockets, which also keep the namespace. */
  close(): void;
}

export interface ContainerDnsOptions {
  readonly libc: Libc;
  /** The container's network namespace: Docker's SandboxKey. */
  readonly namespacePath: string;
  readonly answer: AnswerDns;
  /** Called when the container sends too many queries; it is to be closed, so that they reach Docker. */
  readonly onFlood: () => void;
  readonly forwarded: ForwardedQueries;
}

/**
 * Receives the queries of a container; `undefined` if its namespace does not exist. Throws `kernel/refused`, such as
 * for a kernel before Linux 5.12.
 */
export function openContainerDns(options: ContainerDnsOptions): ServedContainer | undefined {
  const namespace = namespaceAt(options);
  return namespace === undefined ? undefined : new ContainerDns(options, namespace);
}

/** Identifies the namespace at the path; `undefined` if there is none. */
function namespaceAt({ libc, namespacePath }: ContainerDnsOptions): number | undefined {
  try {
    inNetworkNamespace(libc, namespacePath, () => undefined);
  } catch (error) {
    if (isRefusal(error, 'ENOENT', 'EINVAL')) return undefined;
    throw error;
  }
  return inodeOf(namespacePath);
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/**
 * Receives the DNS queries of a container to Docker's name server, over UDP and TCP, and forwards those that `answer`
 * leaves to Docker. All sockets are in the container's network namespace, so a query says whose it is.
 *
 * The redirect ends with its socket, also when this process is killed: from then on queries reach Docker again.
 */
class ContainerDns implements ServedContainer {
  readonly #options: ContainerDnsOptions;
  readonly #namespace: number;
  readonly #datagrams: DatagramSocket;
  readonly #listener: Server;
  /** The netlink socket that owns the redirect. */
  #redirect: number | undefined;
  #second = 0;
  #queries = 0;
  #waiting = 0;

  constructor(options: ContainerDnsOptions, namespace: number) {
    this.#options = options;
    this.#namespace = namespace;
    const { libc, namespacePath } = options;
    // The daemon's next process has the same port: connections that the kernel still redirects reach it.
    const port = firstPort + (namespace % portCount);
    const opened = inNetworkNamespace(libc, namespacePath, () => openSockets(libc, port));
    this.#redirect = opened.redirect;
    this.#datagrams = this.#serveDatagrams(opened.udp);
    this.#listener = this.#serveConnections(opened.tcp);
  }

  isCurrent(): boolean {
    return inodeOf(this.#options.namespacePath) === this.#namespace;
  }

  close(): void {
    void this.#end();
  }

  async endRedirect(): Promise<void> {
    const redirect = this.#redirect;
    this.#redirect = undefined;
    // The kernel takes some milliseconds to remove the table.
    if (redirect !== undefined) await this.#options.libc.closeOffThread(redirect);
  }

  async #end(): Promise<void> {
    await this.endRedirect();
    this.#datagrams.close();
    this.#listener.close();
  }

  #serveDatagrams(fd: number): DatagramSocket {
    const socket = createSocket('udp4');
    socket.on('error', () => undefined);
    socket.on('message', (query, client) => {
      if (this.#isFlood()) return;
      // Docker does not respond to it either.
      if (query.length < headerBytes) return;
      const respond = (response: Buffer) => {
        try {
          socket.send(response, client.port, client.address);
        } catch {
          // The socket is closed by now, or the query was sent from port 0, as raw sockets can.
        }
      };
      this.#answer(query, 'udp', (response) => {
        if (response === undefined) this.#forward(query, respond);
        else respond(response);
      });
    });
    socket.bind({ fd });
    socket.unref();
    return socket;
  }

  #answer(query: Buffer, transport: 'udp' | 'tcp', then: (answer: Answer) => void): void {
    const answer = this.#options.answer(query, transport);
    if (answer instanceof Promise) void answer.then(then);
    else then(answer);
  }

  /** Counts a query; reports whether it is one too many in this second. */
  #isFlood(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) [this.#second, this.#queries] = [second, 0];
    this.#queries++;
    if (this.#queries === maxQueriesPerSecond + 1) this.#options.onFlood();
    return this.#queries > maxQueriesPerSecond;
  }

  /** Sends a query to Docker's name server; calls back with the response if there is one. */
  #forward(query: Buffer, respond: (response: Buffer) => void): void {
    const { forwarded } = this.#options;
    if (this.#waiting >= maxForwardedOfContainer || !forwarded.begin()) return;
    const fd = this.#connect(datagramSocket);
    if (fd === undefined) return forwarded.end();
    this.#waiting++;
    const upstream = createSocket('udp4');
    const end = () => upstream.close();
    const timer = setTimeout(end, answerMs).unref();
    upstream.once('close', () => {
      clearTimeout(timer);
      this.#waiting--;
      forwarded.end();
    });
    upstream.on('error', end);
    upstream.on('message', (response) => {
      // Others in the container can send to the socket only from the server's own address and port.
      if (response.length < headerBytes || response.readUInt16BE(0) !== query.readUInt16BE(0))
        return;
      respond(response);
      end();
    });
    upstream.bind({ fd });
    upstream.unref();
    this.#options.libc.send(fd, query, query.length, doNotSignal);
  }

  #serveConnections(fd: number): Server {
    const listener = createServer((client) => this.#serveConnection(client));
    listener.maxConnections = maxConnections;
    listener.on('error', () => undefined);
    listener.listen({ fd });
    listener.unref();
    return listener;
  }

  #serveConnection(client: Socket): void {
    let upstream: Socket | undefined;
    const end = () => {
      client.destroy();
      upstream?.destroy();
    };
    const queries = new DnsFrames();
    const forward = (query: Buffer) => {
      upstream ??= this.#upstream(client, end);
      if (upstream === undefined) end();
      else upstream.write(frame(query));
    };
    client.setTimeout(idleMs, end);
    client.on('error', end);
    client.once('close', end);
    client.unref();
    client.on('data', (data) => {
      for (const query of queries.push(data)) {
        if (this.#isFlood()) return;
        this.#answer(query, 'tcp', (response) => {
          if (client.destroyed) return;
          if (response === undefined) forward(query);
          else client.write(frame(response));
        });
      }
    });
  }

  /** Connects to Docker's name server, and passes its responses on. */
  #upstream(client: Socket, end: () => void): Socket | undefined {
    const fd = this.#connect(streamSocket);
    if (fd === undefined) return undefined;
    const upstream = new Socket({ fd, readable: true, writable: true });
    const responses = new DnsFrames();
    upstream.setTimeout(answerMs, end);
    upstream.on('error', end);
    upstream.once('close', end);
    upstream.unref();
    upstream.on('data', (data) => {
      for (const response of responses.push(data)) client.write(frame(response));
    });
    return upstream;
  }

  /** A socket to Docker's name server in the container, or `undefined` if it cannot be opened. */
  #connect(type: number): number | undefined {
    const { libc, namespacePath } = this.#options;
    try {
      return inNetworkNamespace(libc, namespacePath, () => {
        const fd = openSocket(libc, type | nonBlocking);
        const mark = int(forwardedMark);
        libc.setsockopt(fd, socketLevel, markOption, mark, mark.length);
        const source = socketName(forwardedFrom, 0);
        libc.bind(fd, source, source.length);
        const name = socketName(server, dnsPort);
        if (libc.connect(fd, name, name.length) < 0) {
          const errno = libc.errno();
          if (errnoName(errno) !== 'EINPROGRESS') {
            libc.close(fd);
            throw refused('connect to the name server', errno);
          }
        }
        return fd;
      });
    } catch {
      return undefined;
    }
  }
}

interface Opened {
  readonly udp: number;
  readonly tcp: number;
  readonly redirect: number;
}

/**
 * Opens the sockets in the namespace of the thread, with the port if it is free, and redirects queries to them.
 */
function openSockets(libc: Libc, port: number): Opened {
  const opened: { close: () => void }[] = [];
  const bound = (type: number) => {
    const fd = openSocket(libc, type);
    opened.push({ close: () => libc.close(fd) });
    // At Join, the loopback interface may not be up yet.
    const one = int(1);
    libc.setsockopt(fd, ipLevel, freeBind, one, one.length);
    for (const name of [socketName(server, port), socketName(server, 0)]) {
      if (libc.bind(fd, name, name.length) === 0) return fd;
    }
    throw refused('bind a DNS socket', libc.errno());
  };
  try {
    const [udp, tcp] = [bound(datagramSocket), bound(streamSocket)];
    const redirect = NetlinkSocket.open(libc, netfilterFamily);
    opened.push(redirect);
    const ports = { udp: boundPort(libc, udp), tcp: boundPort(libc, tcp) };
    redirectDns(redirect, { table, server, ports, exceptMark: forwardedMark });
    // Only its descriptor is kept: the object has a large buffer for responses.
    return { udp, tcp, redirect: redirect.fd };
  } catch (error) {
    for (const one of opened) one.close();
    throw error;
  }
}

const netfilterFamily = 12;
const nonBlocking = 0o4000;
const markOption = 36;
const ipLevel = 0;
const freeBind = 15;
const doNotSignal = 0x4000;

function openSocket(libc: Libc, type: number): number {
  const fd = libc.socket(addressFamilies[4], type | closeOnExec, 0);
  if (fd < 0) throw refused('open a DNS socket', libc.errno());
  return fd;
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  return bytes;
}
