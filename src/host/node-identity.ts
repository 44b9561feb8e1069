import { readFileSync, readlinkSync } from 'node:fs';
import type { HostIdentity } from '../model/kinds/node-report.ts';
import { isOfContainers, type HostInterface } from './autodetection.ts';

/** Reads the identity of this host; unreadable parts are empty. */
export function hostIdentity(interfaces: readonly HostInterface[]): HostIdentity {
  const macs = interfaces.filter((one) => !isOfContainers(one)).map(({ mac }) => mac);
  return {
    bootId: textOf(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    networkNamespace: textOf(() => readlinkSync('/proc/self/ns/net')),
    machineId: textOf(() => readFileSync('/etc/machine-id', 'utf8')),
    macs: [...new Set(macs)].filter((mac) => /[1-9a-f]/.test(mac)).toSorted(),
  };
}

/**
 * Reports whether two reports come from one host: from one boot, or from two boots of the same machine. A clone has the
 * same machine ID, but interfaces of its own; a machine may change its addresses.
 */
export function isSameHost(a: HostIdentity, b: HostIdentity): boolean {
  const isOneBoot =
    a.bootId !== '' && a.bootId === b.bootId && a.networkNamespace === b.networkNamespace;
  return isOneBoot || (a.machineId === b.machineId && a.macs.some((mac) => b.macs.includes(mac)));
}

function textOf(read: () => string): string {
  try {
    return read().trim();
  } catch {
    return '';
  }
}
