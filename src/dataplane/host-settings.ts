import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { replaceFileSync } from '../async/replace-file.ts';
import { describe } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';

/**
 * The settings of the host below `/proc/sys/net`. Source: Linux, networking/ip-sysctl.
 *
 * The daemon does not enable IPv4 forwarding: dockerd does so when it starts, and sets the policy of FORWARD to DROP
 * only if it enabled forwarding itself. A program that enables it earlier makes the host an open router between its
 * own interfaces. dockerd enables IPv6 forwarding for its own IPv6 networks only, so the daemon enables it when the
 * first container with an IPv6 address appears.
 */

const net = '/proc/sys/net';
const forwardingFiles = { 4: `${net}/ipv4/ip_forward`, 6: `${net}/ipv6/conf/all/forwarding` };
const interfaces6 = `${net}/ipv6/conf`;
const acceptIfHost = '1';
const acceptAlways = '2';

/** Reports whether the host forwards packets of the family. */
export function forwards(family: IpFamily): boolean {
  return read(forwardingFiles[family]) === '1';
}

/**
 * Disables router advertisements on a host interface: with one, a container could become the default route of its
 * host. As in Calico. Does nothing without IPv6.
 */
export function ignoreRouterAdvertisements(interfaceName: string): void {
  try {
    writeFileSync(`${interfaces6}/${interfaceName}/accept_ra`, '0');
  } catch {
    // No IPv6, or /proc/sys cannot be written: the firewall drops packets whose source is not an address of the container.
  }
}

/**
 * Enables IPv6 on a host interface if it is disabled, by default or for all interfaces; returns whether it was enabled
 * by this call.
 */
export function switchOnIpv6(interfaceName: string): boolean {
  const file = `${interfaces6}/${interfaceName}/disable_ipv6`;
  if (read(file) !== '1') return false;
  try {
    writeFileSync(file, '0');
    return true;
  } catch {
    // The kernel refuses the addresses and routes that need it, and these refusals are reported.
    return false;
  }
}

/** Values before our changes, by file. */
const previousValues = z.record(z.string(), z.string());

/**
 * Enables IPv6 forwarding and restores the previous state. A host that forwards ignores router advertisements unless
 * its interfaces are set to accept them always, so interfaces that accepted them are set so. The previous values are
 * stored in a file below `/run`: it survives the daemon, but not a reboot, which resets the values too.
 */
export class Ipv6Forwarding {
  readonly #record: string;
  readonly #warn: (text: string) => void;
  #known: Readonly<Record<string, string>> | undefined;

  /** The record is stored next to the control socket; `warn` reports a damaged one. */
  constructor(controlSocket: string, warn: (text: string) => void = () => undefined) {
    this.#record = join(dirname(controlSocket), 'ipv6-forwarding.json');
    this.#warn = warn;
  }

  /** Whether the daemon has enabled it since the host booted. */
  get isOwn(): boolean {
    return this.#previous()[forwardingFiles[6]] !== undefined;
  }

  /** Enables it if it is disabled; returns why that failed, or `undefined`. */
  switchOn(): string | undefined {
    if (forwards(6)) return undefined;
    try {
      this.#change([
        ...believingInterfaces().map((file) => [file, acceptAlways] as const),
        [forwardingFiles[6], '1'],
      ]);
      return undefined;
    } catch (error) {
      return `IPv6 between containers does not work: IPv6 forwarding cannot be switched on (${describe(error)})`;
    }
  }

  /** Sets the value of an interface again that another program has reset, such as `ifup`. */
  keepAdvertisements(interfaceName: string): void {
    const file = `${interfaces6}/${interfaceName}/accept_ra`;
    if (this.#previous()[file] !== undefined && read(file) === acceptIfHost) {
      writeFileSync(file, acceptAlways);
    }
  }

  /** Restores the previous values, except those to keep for others (names as in sysctl). */
  switchBack(keep: ReadonlySet<string>): void {
    const { [forwardingFiles[6]]: forwarding, ...others } = this.#previous();
    if (forwarding === undefined || keep.has('net.ipv6.conf.all.forwarding')) return;
    // First, because the kernel sets the value of every interface with it.
    writeFileSync(forwardingFiles[6], forwarding);
    for (const [file, value] of Object.entries(others)) {
      const isOwn = file.endsWith('/accept_ra') ? read(file) === acceptAlways : existsSync(file);
      if (isOwn) writeFileSync(file, value);
    }
    rmSync(this.#record, { force: true });
  }

  #previous(): Readonly<Record<string, string>> {
    const text = this.#known === undefined ? read(this.#record) : undefined;
    this.#known ??= text === undefined ? {} : this.#parse(text);
    return this.#known;
  }

  /**
   * A damaged record still shows that the daemon enabled forwarding. Ignoring it would remove the guard and make the
   * host an open router.
   */
  #parse(text: string): Readonly<Record<string, string>> {
    try {
      return previousValues.parse(JSON.parse(text));
    } catch {
      this.#warn(
        `${this.#record} is damaged; cannot restore interface settings (accept_ra), only IPv6 forwarding`,
      );
      return { [forwardingFiles[6]]: '0' };
    }
  }

  /** The record is written first: after a crash in between, too much is restored, never too little. */
  #change(desired: readonly (readonly [file: string, value: string])[]): void {
    const files = [...desired.map(([file]) => file), ...interfaceFiles('forwarding')];
    const before = files.map((file) => [file, read(file) ?? ''] as const);
    this.#known = { ...Object.fromEntries(before), ...this.#previous() };
    replaceFileSync(this.#record, JSON.stringify(this.#known));
    for (const [file, value] of desired) writeFileSync(file, value);
  }
}

/** Returns the files of interfaces that accept router advertisements while the host does not forward. */
function believingInterfaces(): readonly string[] {
  return interfaceFiles('accept_ra').filter((file) => read(file) === acceptIfHost);
}

/** Returns the files of a setting, for each interface and for future ones. */
function interfaceFiles(setting: 'accept_ra' | 'forwarding'): readonly string[] {
  return readdirSync(interfaces6)
    .filter((name) => name !== 'all' && name !== 'lo')
    .filter((name) => name !== 'default' || setting === 'forwarding')
    .map((name) => `${interfaces6}/${name}/${setting}`);
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}
