import { readFileSync } from 'node:fs';
import type { IpFamily } from '../../ip/address.ts';
import { addressFamilies, closeOnExec } from './ip-socket.ts';
import type { Libc } from './libc.ts';

const families = {
  4: { level: 0, names: '/proc/net/ip_tables_names' },
  6: { level: 41, names: '/proc/net/ip6_tables_names' },
} as const;
const rawSocket = 3;
const rawProtocol = 255;
const getInfo = 64;
const infoBytes = 84;
/** Behind the table's name: where its chains begin and end, how many entries it has, how many bytes. */
const hooksAt = 32;

/**
 * The legacy tables of a family with the places of their chains, numbers of entries and sizes: a cheap way to detect
 * changes by other programs, of which the kernel does not notify. Tables that are not loaded stay so. Source:
 * linux/netfilter_ipv4/ip_tables.h, IPT_SO_GET_INFO.
 */
export function legacyTableSizes(libc: Libc, family: IpFamily): ReadonlyMap<string, string> {
  const { level, names } = families[family];
  const tables = loadedTables(names);
  const sizes = new Map<string, string>();
  if (tables.length === 0) return sizes;
  const fd = libc.socket(addressFamilies[family], rawSocket | closeOnExec, rawProtocol);
  if (fd < 0) return sizes;
  try {
    for (const table of tables) {
      const info = Buffer.alloc(infoBytes);
      info.write(table, 0, 'ascii');
      const length = Buffer.alloc(4);
      length.writeUInt32LE(infoBytes, 0);
      if (libc.getsockopt(fd, level, getInfo, info, length) < 0) continue;
      sizes.set(table, info.toString('hex', hooksAt));
    }
  } finally {
    libc.close(fd);
  }
  return sizes;
}

function loadedTables(file: string): readonly string[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((name) => name !== '');
  } catch {
    // The file exists only if the modules are loaded.
    return [];
  }
}
