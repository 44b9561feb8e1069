import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { replaceFileSync } from '../async/replace-file.ts';
import { describe } from '../errors/error.ts';
import type { IpFamily } from '../ip/address.ts';

/**
 * The settings of the host below `/proc/sys/net`. Source: Linux, networking/ip-sysctl.
 *
 * IPv4 forwarding is not ours to switch on: dockerd does it when it starts, and sets the policy of FORWARD to
 * DROP only if it was dockerd that did. Whoever does it before makes the host an open router between its own
 * interfaces. IPv6 forwarding dockerd switches on for its own IPv6 networks only, so we do it, when the first
 * container with an IPv6 address comes.
 */

const net = '/proc/sys/net';
const forwardingFiles = { 4: `${net}/ipv4/ip_forward`, 6: `${net}/ipv6/conf/all/forwarding` };
const interfaces6 = `${net}/ipv6/conf`;
const acceptIfHost = '1';
const acceptAlways = '2';

/** Whether the host forwards packets of the family. */
export function forwards(family: IpFamily): boolean {
  return read(forwardingFiles[family]) === '1';
}

/**
 * An interface to a container believes no router advertisement: with one a container could become the default
 * route of its host. As in Calico. Nothing where there is no IPv6.
 */
export function ignoreRouterAdvertisements(interfaceName: string): void {
  try {
    writeFileSync(`${interfaces6}/${interfaceName}/accept_ra`, '0');
  } catch {
    // No IPv6, or /proc/sys cannot be written: the firewall drops what comes from an address of no container.
  }
}

/**
 * Switches IPv6 on for an interface to a container, on a host that has it off by default or for all that there were;
 * answers whether it was off and is on now.
 */
export function switchOnIpv6(interfaceName: string): boolean {
  const file = `${interfaces6}/${interfaceName}/disable_ipv6`;
  if (read(file) !== '1') return false;
  try {
    writeFileSync(file, '0');
    return true;
  } catch {
    // What needs it is refused by the kernel, and told with that.
    return false;
  }
}

/** What was there before we changed it, by file. */
const previousValues = z.record(z.string(), z.string());

/**
 * IPv6 forwarding, switched on and back. A host that forwards no longer believes router advertisements unless
 * its interfaces are told to, so those that did are told. What was there before is kept in a file of `/run`:
 * it outlives us, but not a reboot, after which nothing of it is true any more.
 */
export class Ipv6Forwarding {
  readonly #record: string;
  readonly #warn: (text: string) => void;
  #known: Readonly<Record<string, string>> | undefined;

  /** The record is kept beside the control socket; `warn` is told of one that cannot be read. */
  constructor(controlSocket: string, warn: (text: string) => void = () => undefined) {
    this.#record = join(dirname(controlSocket), 'ipv6-forwarding.json');
    this.#warn = warn;
  }

  /** Whether it was us who switched it on since the host booted. */
  get isOwn(): boolean {
    return this.#previous()[forwardingFiles[6]] !== undefined;
  }

  /** Switches it on if it is off; answers why that could not be done, or nothing. */
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

  /** Tells an interface again whose setting somebody has put back, as `ifup` does. */
  keepAdvertisements(interfaceName: string): void {
    const file = `${interfaces6}/${interfaceName}/accept_ra`;
    if (this.#previous()[file] !== undefined && read(file) === acceptIfHost) {
      writeFileSync(file, acceptAlways);
    }
  }

  /** Puts back what was there before, unless it is to be kept for somebody else (by the name that sysctl uses). */
  switchBack(keep: ReadonlySet<string>): void {
    const { [forwardingFiles[6]]: forwarding, ...others } = this.#previous();
    if (forwarding === undefined || keep.has('net.ipv6.conf.all.forwarding')) return;
    // The kernel sets that of every interface with it, so that comes first.
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
   * A damaged record still says that it was us who switched forwarding on, which was off then: taken for nothing it
   * would take away the guard, and make the host an open router.
   */
  #parse(text: string): Readonly<Record<string, string>> {
    try {
      return previousValues.parse(JSON.parse(text));
    } catch {
      this.#warn(
        `${this.#record} is damaged, so the settings of the interfaces (accept_ra) cannot be put back; IPv6 forwarding can`,
      );
      return { [forwardingFiles[6]]: '0' };
    }
  }

  /** The record is written first: after a crash in between too much is put back, never too little. */
  #change(desired: readonly (readonly [file: string, value: string])[]): void {
    const files = [...desired.map(([file]) => file), ...interfaceFiles('forwarding')];
    const before = files.map((file) => [file, read(file) ?? ''] as const);
    this.#known = { ...Object.fromEntries(before), ...this.#previous() };
    replaceFileSync(this.#record, JSON.stringify(this.#known));
    for (const [file, value] of desired) writeFileSync(file, value);
  }
}

/** The files of interfaces that believe router advertisements as long as the host does not forward. */
function believingInterfaces(): readonly string[] {
  return interfaceFiles('accept_ra').filter((file) => read(file) === acceptIfHost);
}

/** A setting of each interface, and of those to come. */
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
