import { addressToBytes, familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import type { Libc } from './libc.ts';

/** Sockets of IP by system calls. Source: socket(2), ip(7), ipv6(7). */

/** The kernel's numbers of address families. */
export const addressFamilies: Readonly<Record<IpFamily, number>> = { 4: 2, 6: 10 };

export const streamSocket = 1;
export const datagramSocket = 2;
/** Added to the type of a socket: programs that this process starts do not get it. */
export const closeOnExec = 0o2000000;
/** The level of the options that every socket has. */
export const socketLevel = 1;

/** Returns a `sockaddr_in` or `sockaddr_in6`. */
export function socketName(address: IpAddress, port: number): Buffer {
  const family = familyOf(address);
  const name = Buffer.alloc(family === 4 ? 16 : 28);
  name.writeUInt16LE(addressFamilies[family], 0);
  name.writeUInt16BE(port, 2);
  name.set(addressToBytes(address), family === 4 ? 4 : 8);
  return name;
}

/** Returns the port of a bound socket of either family. */
export function boundPort(libc: Libc, fd: number): number {
  const name = Buffer.alloc(28);
  libc.getsockname(fd, name, Buffer.of(name.length, 0, 0, 0));
  return name.readUInt16BE(2);
}
