import type { Backend } from '../dataplane/iptables/tables.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import { nftablesGeneration } from '../dataplane/netlink/nftables-generation.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import { legacyTableSizes } from '../dataplane/netlink/xtables-size.ts';
import type { IpFamily } from '../ip/address.ts';

/**
 * Tells whether somebody else changed the firewall since we read it. nf_tables counts its changes; of legacy
 * tables the sizes are compared.
 */
export class FirewallWatch {
  readonly #look: () => string;
  readonly #afterOwn: (known: string, transactions: number) => string | undefined;
  #known: string | undefined;
  #mustRead = false;

  constructor(options: {
    readonly backend: Backend;
    readonly families: readonly IpFamily[];
    readonly libc: Libc;
    readonly netfilter: NetlinkSocket;
  }) {
    const { backend, families, libc, netfilter } = options;
    if (backend === 'nft') {
      this.#look = () => String(nftablesGeneration(netfilter));
      this.#afterOwn = (known, transactions) => String(Number(known) + transactions);
    } else {
      this.#look = () => families.map((family) => sizesText(libc, family)).join('|');
      // The sizes that our own change leaves are not known beforehand.
      this.#afterOwn = () => undefined;
    }
  }

  /** Whether it is otherwise than we know. */
  hasChanged(): boolean {
    return this.#look() !== this.#known;
  }

  /** Whether others may have changed it together with us, which only reading tells; it is in no hurry. */
  get mustRead(): boolean {
    return this.#mustRead;
  }

  /** To be called before the tables are read: what is changed from then on is a change. */
  beforeRead(): void {
    this.#known = this.#look();
    this.#mustRead = false;
  }

  /** To be called after so many transactions of our own. */
  afterWrite(transactions: number): void {
    if (transactions === 0 || this.#known === undefined) return;
    const expected = this.#afterOwn(this.#known, transactions);
    this.#known = expected ?? this.#look();
    this.#mustRead ||= expected === undefined;
  }
}

function sizesText(libc: Libc, family: IpFamily): string {
  return [...legacyTableSizes(libc, family)].map(([table, size]) => `${table} ${size}`).join(';');
}
