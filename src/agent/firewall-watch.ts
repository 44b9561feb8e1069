import type { Backend } from '../dataplane/iptables/tables.ts';
import type { Libc } from '../dataplane/netlink/libc.ts';
import { nftablesGeneration } from '../dataplane/netlink/nftables-generation.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import { legacyTableSizes } from '../dataplane/netlink/xtables-size.ts';
import type { IpFamily } from '../ip/address.ts';

/**
 * Tells whether somebody else changed the firewall since we last knew it. nf_tables counts its changes; of
 * legacy tables the sizes are compared.
 */
export class FirewallWatch {
  readonly #look: () => string;
  readonly #afterOwn: (before: string, transactions: number) => string;
  #known: string | undefined;

  constructor(options: {
    readonly backend: Backend;
    readonly families: readonly IpFamily[];
    readonly libc: Libc;
    readonly netfilter: NetlinkSocket;
  }) {
    const { backend, families, libc, netfilter } = options;
    if (backend === 'nft') {
      this.#look = () => String(nftablesGeneration(netfilter));
      this.#afterOwn = (before, transactions) => String(Number(before) + transactions);
    } else {
      this.#look = () => families.map((family) => sizesText(libc, family)).join('|');
      // The sizes that our own change leaves are not known beforehand.
      this.#afterOwn = () => this.#look();
    }
  }

  /** Whether it is otherwise than we know. */
  hasChanged(): boolean {
    return this.#look() !== this.#known;
  }

  /**
   * To be called before we write; the answer is to be called afterwards with the number of our transactions.
   * If others wrote in between, `hasChanged` tells.
   */
  beginOwn(): (transactions: number) => void {
    const before = this.#look();
    return (transactions) => {
      this.#known = this.#afterOwn(before, transactions);
    };
  }
}

function sizesText(libc: Libc, family: IpFamily): string {
  return [...legacyTableSizes(libc, family)].map(([table, size]) => `${table} ${size}`).join(';');
}
