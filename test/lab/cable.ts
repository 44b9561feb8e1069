import type { Machine } from './machine.ts';

/** Which packets a cut cable drops; by default all. */
export interface Cut {
  /** Only those that the host sends, or only those that it is sent. */
  readonly way?: 'from host' | 'to host';
  /** Only TCP and UDP with this source or destination port. */
  readonly port?: number;
}

/**
 * The cable of a host, between its eth0 and the switch. Its faults are at the switch, out of reach of the host and its
 * firewall: a cut cable drops without a trace, and the host keeps its carrier.
 */
export class Cable {
  readonly #fabric: Machine;
  readonly #port: string;
  #cuts: readonly Cut[] = [];

  constructor(fabric: Machine, at: { readonly port: string; readonly bridge: string }) {
    this.#fabric = fabric;
    this.#port = at.port;
  }

  /** Drops packets from now on, in addition to those of earlier cuts. */
  async cut(cut: Cut = {}): Promise<void> {
    await this.#setCuts([...this.#cuts, cut]);
  }

  /** Ends all cuts. */
  async mend(): Promise<void> {
    await this.#setCuts([]);
  }

  /** Takes the host's carrier away, or gives it back. */
  async plug(isPlugged: boolean): Promise<void> {
    await this.#fabric.run(['ip', 'link', 'set', this.#port, isPlugged ? 'up' : 'down']);
  }

  async #setCuts(cuts: readonly Cut[]): Promise<void> {
    this.#cuts = cuts;
    await this.#fabric.run(['nft', '-f', '-'], { input: cutRules(this.#port, cuts) });
  }
}

/** Returns the ruleset that replaces the cuts of a port of the switch. */
function cutRules(port: string, cuts: readonly Cut[]): string {
  const table = `netdev cut-${port}`;
  const chain = (hook: 'egress' | 'ingress', way: Cut['way']) => `
  chain ${hook} {
    type filter hook ${hook} device "${port}" priority 0
    ${cuts
      .filter((cut) => cut.way === undefined || cut.way === way)
      .flatMap(({ port: number }) =>
        number === undefined
          ? ['drop']
          : ['sport', 'dport'].map((end) => `meta l4proto { tcp, udp } th ${end} ${number} drop`),
      )
      .join('\n    ')}
  }`;
  return `
table ${table}
delete table ${table}
table ${table} {${chain('ingress', 'from host')}${chain('egress', 'to host')}
}
`;
}
