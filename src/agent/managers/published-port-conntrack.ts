import type { Conntrack, Flow } from '../../dataplane/conntrack.ts';
import type { HostAddresses } from '../../dataplane/host-addresses.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { protocolNumbers } from '../../ip/port-protocol.ts';
import type { PublishedPort } from '../../ruleset/published-port.ts';

interface PublishedPortConntrackKernel {
  readonly addresses: Pick<HostAddresses, 'ofInterfaces'>;
  readonly conntrack: Pick<Conntrack, 'flush'>;
}

/**
 * Flushes conntrack entries whose NAT has changed. The kernel evaluates NAT rules only for the first packet of a flow,
 * and a UDP flow never has another first packet while its client continues: it would go to the container that had the
 * port before, or to none. TCP connections end by themselves.
 */
export class PublishedPortConntrack {
  readonly #changed: PublishedPort[] = [];
  readonly #kernel: PublishedPortConntrackKernel;

  constructor(kernel: PublishedPortConntrackKernel) {
    this.#kernel = kernel;
  }

  /** Takes added or removed NAT rules. */
  changed(rules: readonly PublishedPort[]): void {
    this.#changed.push(...rules.filter(({ protocol }) => protocol !== 'TCP'));
  }

  /** Call when the current NAT rules are programmed. */
  flushStale(families: readonly IpFamily[]): void {
    const changed = this.#changed.splice(0);
    if (changed.length === 0) return;
    const ofHost = this.#kernel.addresses.ofInterfaces();
    const containers = new Set(changed.map(({ address }) => address));
    const ports = new Set(
      changed.map((rule) => key(protocolNumbers[rule.protocol], rule.hostPort)),
    );
    this.#kernel.conntrack.flush(families, (flow) => isStale(flow, { ofHost, containers, ports }));
  }
}

/** Reports whether a flow goes to a changed port, or to the container by any port of the host. */
function isStale(
  flow: Flow,
  known: {
    readonly ofHost: ReadonlySet<IpAddress>;
    readonly containers: ReadonlySet<IpAddress>;
    readonly ports: ReadonlySet<string>;
  },
): boolean {
  const { protocol, destination, destinationPort, answerer } = flow;
  if (protocol !== protocolNumbers.UDP && protocol !== protocolNumbers.SCTP) return false;
  const isTranslated = answerer !== destination;
  if (isTranslated && known.containers.has(answerer)) return true;
  const isOfHost = known.ofHost.has(destination) || destination.startsWith('127.');
  return isOfHost && known.ports.has(key(protocol, destinationPort));
}

function key(protocol: number, port: number): string {
  return `${protocol} ${port}`;
}
