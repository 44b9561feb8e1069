import { release } from 'node:os';
import { refused } from '../netlink/errno.ts';
import type { Libc } from '../netlink/libc.ts';

/**
 * Checksums of sent packets, by the interface or by the kernel. Up to Linux 5.7 a VXLAN interface that leaves them to
 * the uplink may send wrong ones. Equivalent: `ethtool -K NAME tx off`. Source: linux/ethtool.h, linux/if.h,
 * felix/environment/feature_detect_linux.go.
 */

const [ipv4, datagram] = [2, 2];
const ethtoolRequest = 0x8946;
const commands = { get: 0x16, set: 0x17 };
const requestBytes = 40;
const nameBytes = 16;

/** Reports whether VXLAN interfaces of this kernel must not offload the checksums of the packets that they send. */
export function isChecksumOffloadBroken(kernelRelease = release()): boolean {
  const [, major = '', minor = ''] = /^(\d+)\.(\d+)/.exec(kernelRelease) ?? [];
  if (major === '') return false;
  return Number(major) < 5 || (Number(major) === 5 && Number(minor) <= 7);
}

/** Reports whether the interface calculates the checksums of the packets that it sends. Throws `kernel/refused`. */
export function offloadsChecksums(libc: Libc, name: string): boolean {
  return ethtool(libc, name, { command: commands.get, value: 0 }) !== 0;
}

/** Lets the kernel calculate them. Throws `kernel/refused`. */
export function stopChecksumOffload(libc: Libc, name: string): void {
  ethtool(libc, name, { command: commands.set, value: 0 });
}

function ethtool(
  libc: Libc,
  name: string,
  { command, value }: { readonly command: number; readonly value: number },
): number {
  const what = `set the checksum offload of the interface ${name}`;
  const data = Buffer.alloc(8);
  data.writeUInt32LE(command, 0);
  data.writeUInt32LE(value, 4);
  const request = Buffer.alloc(requestBytes);
  request.write(name, 0, nameBytes - 1);
  request.writeBigUInt64LE(libc.addressOf(data), nameBytes);
  const fd = libc.socket(ipv4, datagram, 0);
  if (fd < 0) throw refused(what, libc.errno());
  try {
    if (libc.ioctl(fd, ethtoolRequest, request) < 0) throw refused(what, libc.errno());
    return data.readUInt32LE(4);
  } finally {
    libc.close(fd);
  }
}
