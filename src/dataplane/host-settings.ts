import { readFileSync, writeFileSync } from 'node:fs';
import { describe } from '../errors/error.ts';

/** A setting below `/proc/sys` that must have a value. */
export interface HostSetting {
  readonly file: string;
  readonly value: string;
  /** What does not work without it. */
  readonly purpose: string;
}

/** Routing between containers and the host needs these. Source: Linux, networking/ip-sysctl. */
export const forwarding4: HostSetting = {
  file: '/proc/sys/net/ipv4/ip_forward',
  value: '1',
  purpose: 'IPv4 between containers',
};

export const forwarding6: HostSetting = {
  file: '/proc/sys/net/ipv6/conf/all/forwarding',
  value: '1',
  purpose: 'IPv6 between containers',
};

/** Sets what is not set yet; answers why it could not, or nothing. */
export function ensureHostSetting({ file, value, purpose }: HostSetting): string | undefined {
  try {
    if (readFileSync(file, 'utf8').trim() === value) return undefined;
    writeFileSync(file, value);
    return undefined;
  } catch (error) {
    return `${purpose} does not work: ${file} cannot be set to ${value} (${describe(error)})`;
  }
}
