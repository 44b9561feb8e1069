import type { KernelSockets } from '../dataplane/kernel-sockets.ts';
import type { Backend } from '../dataplane/iptables/tables.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import { nftablesGeneration } from '../dataplane/netlink/nftables-generation.ts';
import { legacyTableSizes } from '../dataplane/netlink/xtables-size.ts';
import type { IpFamily } from '../ip/address.ts';

/** A value of the kernel's firewall that changes with every change of its rules. */
export interface FirewallChanges {
  /** Returns the same text as long as the firewall is unchanged. Throws `kernel/refused`. */
  poll(): string;
  /** Returns the value expected after a number of our own transactions; `undefined` if it cannot be predicted. */
  afterOwn(known: string, transactions: number): string | undefined;
}

/** nf_tables has a generation counter; for legacy tables the sizes are compared. */
export function firewallChanges(options: {
  readonly backend: Backend;
  readonly families: readonly IpFamily[];
  readonly sockets: Pick<KernelSockets, 'libc' | 'netfilter'>;
}): FirewallChanges {
  const { backend, families, sockets } = options;
  if (backend === 'nft') {
    return {
      poll: () => String(nftablesGeneration(sockets.netfilter)),
      afterOwn: (known, transactions) => String(Number(known) + transactions),
    };
  }
  return {
    poll: () => families.map((family) => sizesText(sockets.libc, family)).join('|'),
    afterOwn: () => undefined,
  };
}

/** Detects changes to the firewall by other programs. */
export class FirewallWatch {
  readonly #changes: FirewallChanges;
  #known: string | undefined;
  #mustRead = false;

  constructor(changes: FirewallChanges) {
    this.#changes = changes;
  }

  /** Reports whether the firewall has changed since the last read. */
  hasChanged(): boolean {
    return this.#changes.poll() !== this.#known;
  }

  /** Whether others may have written at the same time as this program, which only a read can tell. Not urgent. */
  get mustRead(): boolean {
    return this.#mustRead;
  }

  /** Call before the tables are read: any later change counts as a change. */
  beforeRead(): void {
    this.#known = this.#changes.poll();
    this.#mustRead = false;
  }

  /** Call after a number of our own transactions. */
  afterWrite(transactions: number): void {
    if (transactions === 0 || this.#known === undefined) return;
    const expected = this.#changes.afterOwn(this.#known, transactions);
    this.#known = expected ?? this.#changes.poll();
    this.#mustRead ||= expected === undefined;
  }
}

function sizesText(libc: Libc, family: IpFamily): string {
  return [...legacyTableSizes(libc, family)].map(([table, size]) => `${table} ${size}`).join(';');
}
