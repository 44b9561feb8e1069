import type { KernelSockets } from '../dataplane/kernel-sockets.ts';
import type { Backend } from '../dataplane/iptables/tables.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import { nftablesGeneration } from '../dataplane/netlink/nftables-generation.ts';
import { legacyTableSizes } from '../dataplane/netlink/xtables-size.ts';
import type { IpFamily } from '../ip/address.ts';

/** What of the kernel's firewall changes with each change of its rules. */
export interface FirewallChanges {
  /** The same as long as nobody changed anything. Throws `kernel/refused`. */
  poll(): string;
  /** What it is after so many transactions of our own, if that can be told beforehand. */
  afterOwn(known: string, transactions: number): string | undefined;
}

/** nf_tables counts its changes; of legacy tables the sizes are compared. */
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

/** Tells whether somebody else changed the firewall since we read it. */
export class FirewallWatch {
  readonly #changes: FirewallChanges;
  #known: string | undefined;
  #mustRead = false;

  constructor(changes: FirewallChanges) {
    this.#changes = changes;
  }

  /** Whether it is otherwise than we know. */
  hasChanged(): boolean {
    return this.#changes.poll() !== this.#known;
  }

  /** Whether others may have changed it together with us, which only reading tells; it is in no hurry. */
  get mustRead(): boolean {
    return this.#mustRead;
  }

  /** To be called before the tables are read: what is changed from then on is a change. */
  beforeRead(): void {
    this.#known = this.#changes.poll();
    this.#mustRead = false;
  }

  /** To be called after so many transactions of our own. */
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
