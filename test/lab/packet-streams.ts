import koffi from 'koffi';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { addressToBytes, familyOf, parseAddress } from '../../src/ip/address.ts';
import { checksum } from './checksum.ts';

/**
 * Sends single packets of flows without a socket repeatedly until it is killed, each from a named network namespace:
 * like a peer that does not notice that the other side has changed.
 *
 *     packet-streams.ts JSON   a list of `Stream`
 */

/** A packet that is sent every millisecond. ICMP: `from` is the identifier, and `to` 0 for a request, 1 for a reply. */
export interface Stream {
  readonly namespace: string;
  readonly protocol: 'icmp' | 'udp' | 'tcp';
  readonly source: string;
  readonly destination: string;
  readonly from: number;
  readonly to: number;
  /** Type of service; distinguishes the stream from others. */
  readonly tos: number;
}

const [families, rawSocket, rawProtocol] = [{ 4: 2, 6: 10 } as const, 3, 255];
const acknowledge = 0x10;

function transport(
  stream: Stream,
  family: 4 | 6,
): { number: number; bytes: Buffer; sumAt: number } {
  const { protocol, from, to } = stream;
  if (protocol === 'icmp') {
    const bytes = Buffer.alloc(16);
    const [request, answer] = family === 4 ? [8, 0] : [128, 129];
    bytes.writeUInt8(to === 0 ? request : answer, 0);
    bytes.writeUInt16BE(from, 4);
    return { number: family === 4 ? 1 : 58, bytes, sumAt: 2 };
  }
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16BE(from, 0);
  bytes.writeUInt16BE(to, 2);
  if (protocol === 'udp') {
    bytes.writeUInt16BE(bytes.length, 4);
    return { number: 17, bytes, sumAt: 6 };
  }
  bytes.writeUInt32BE(1, 4);
  bytes.writeUInt32BE(1, 8);
  bytes.writeUInt8(5 << 4, 12);
  bytes.writeUInt8(acknowledge, 13);
  bytes.writeUInt16BE(1000, 14);
  return { number: 6, bytes, sumAt: 16 };
}

/** The packet with its IP header, as RFC 791, 792, 768, 9293, 4443 and 8200 have it. */
function packet(stream: Stream): Buffer {
  const family = familyOf(parseAddress(stream.source));
  const [source, destination] = [stream.source, stream.destination].map((one) =>
    Buffer.from(addressToBytes(parseAddress(one))),
  );
  if (source === undefined || destination === undefined) throw new TypeError('two addresses');
  const { number, bytes, sumAt } = transport(stream, family);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(bytes.length, 0);
  pseudo.writeUInt32BE(number, 4);
  const isSumOfAddresses = stream.protocol !== 'icmp' || family === 6;
  const summed = isSumOfAddresses ? [source, destination, pseudo, bytes] : [bytes];
  bytes.writeUInt16BE(checksum(Buffer.concat(summed)), sumAt);
  const header = Buffer.alloc(family === 4 ? 12 : 8);
  if (family === 4) {
    header.writeUInt8(0x45, 0);
    header.writeUInt8(stream.tos, 1);
    // The kernel fills in length, id and checksum.
    header.writeUInt8(64, 8);
    header.writeUInt8(number, 9);
  } else {
    header.writeUInt32BE(((6 << 28) | (stream.tos << 20)) >>> 0, 0);
    header.writeUInt16BE(bytes.length, 4);
    header.writeUInt8(number, 6);
    header.writeUInt8(64, 7);
  }
  return Buffer.concat([header, source, destination, bytes]);
}

function socketAddress(text: string): Buffer {
  const address = Buffer.from(addressToBytes(parseAddress(text)));
  const isIpv4 = address.length === 4;
  const bytes = Buffer.alloc(isIpv4 ? 16 : 28);
  bytes.writeUInt16LE(families[isIpv4 ? 4 : 6], 0);
  address.copy(bytes, isIpv4 ? 4 : 8);
  return bytes;
}

function run(streams: readonly Stream[]): void {
  const libc = loadLibc();
  const sendTo: (...of: readonly [number, Buffer, number, number, Buffer, number]) => number = koffi
    .load(null)
    .func(
      'int sendto(int fd, const void *data, size_t length, int flags, const void *to, uint size)',
    );
  const sockets = new Map<string, number>();
  const socketOf = ({ namespace, source }: Stream): number => {
    const family = familyOf(parseAddress(source));
    const key = `${namespace} ${family}`;
    const path = `/run/netns/${namespace}`;
    const open = () => libc.socket(families[family], rawSocket, rawProtocol);
    const fd = sockets.get(key) ?? inNetworkNamespace(libc, path, open);
    sockets.set(key, fd);
    return fd;
  };
  const ready = streams.map(
    (stream) => [socketOf(stream), packet(stream), socketAddress(stream.destination)] as const,
  );
  // Without an interface a sender cannot send; that is expected.
  setInterval(() => {
    for (const [fd, bytes, to] of ready) sendTo(fd, bytes, bytes.length, 0, to, to.length);
  }, 1);
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion
if (import.meta.main) run(JSON.parse(process.argv[2] ?? '[]') as readonly Stream[]);
