import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { addressToBytes, parseAddress } from '../../src/ip/address.ts';
import { checksum } from './checksum.ts';

/**
 * Sends forged ICMPv6 packets on `eth0` of the current network namespace, on a packet socket (packet(7)): the namespace's
 * own routes and neighbours do not matter. A container needs NET_RAW for that.
 *
 *     link-packets.ts echo SOURCE COUNT     echo requests from one source to as many link-local addresses
 *     link-packets.ts solicit TARGET COUNT  neighbour solicitations for one target from as many link-local addresses
 */

const [packetFamily, datagrams, ipv6Protocol] = [17, 2, 0x86dd];
/** The MAC address of the host's side of every link. */
const host = Buffer.from('eeeeeeeeeeee', 'hex');
/** Addresses of no interface. */
const forged = (n: number) => `fe80::99:${(n + 1).toString(16)}`;
const icmp6 = 58;
const [echoRequest, neighbourSolicitation, sourceLinkAddress] = [128, 135, 1];

/** Returns an IPv6 packet with an ICMPv6 message, whose checksum is filled in. */
function packet(from: string, to: string, message: Buffer): Buffer {
  const addresses = Buffer.concat(
    [from, to].map((one) => Buffer.from(addressToBytes(parseAddress(one)))),
  );
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(message.length, 0);
  pseudo.writeUInt8(icmp6, 7);
  message.writeUInt16BE(checksum(Buffer.concat([addresses, pseudo, message])), 2);
  const header = Buffer.alloc(8);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(message.length, 4);
  header.writeUInt8(icmp6, 6);
  // The hop limit that neighbour discovery demands (RFC 4861).
  header.writeUInt8(255, 7);
  return Buffer.concat([header, addresses, message]);
}

function echo(source: string, n: number): Buffer {
  const message = Buffer.alloc(16);
  message.writeUInt8(echoRequest, 0);
  return packet(source, forged(n), message);
}

function solicitation(target: string, n: number): Buffer {
  const message = Buffer.alloc(32);
  message.writeUInt8(neighbourSolicitation, 0);
  message.set(addressToBytes(parseAddress(target)), 8);
  message.set([sourceLinkAddress, 1, 2, 0, 0, 0, n >> 8, n & 255], 24);
  return packet(forged(n), target, message);
}

const [, , kind = '', address = '', count = '0'] = process.argv;
const libc = loadLibc();
const fd = libc.socket(packetFamily, datagrams, 0);
// A `sockaddr_ll`.
const to = Buffer.alloc(20);
to.writeUInt16LE(packetFamily, 0);
to.writeUInt16BE(ipv6Protocol, 2);
to.writeInt32LE(libc.if_nametoindex('eth0'), 4);
to.writeUInt8(host.length, 11);
host.copy(to, 12);
const started = performance.now();
for (let n = 0; n < Number(count); n++) {
  const bytes = kind === 'echo' ? echo(address, n) : solicitation(address, n);
  const sent = libc.sendto(fd, bytes, bytes.length, 0, to, to.length);
  if (sent < 0) throw new Error(`packet not sent: error ${libc.errno()}`);
}
libc.close(fd);
process.stdout.write(`${(performance.now() - started).toFixed(0)} ms\n`);
