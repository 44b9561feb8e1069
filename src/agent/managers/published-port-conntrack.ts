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
 * Ends flows whose way has changed. The kernel asks the rules about a flow's first packet only, and a flow
 * without connections (UDP) never has another first packet while its client goes on: it would go to the
 * container that had the port before, or to none. TCP ends by itself.
 */
export class PublishedPortConntrack {
  readonly #changed: PublishedPort[] = [];
  readonly #kernel: PublishedPortConntrackKernel;

  constructor(kernel: PublishedPortConntrackKernel) {
    this.#kernel = kernel;
  }

  /** A way that is new, or gone. */
  changed(rules: readonly PublishedPort[]): void {
    this.#changed.push(...rules.filter(({ protocol }) => protocol !== 'TCP'));
  }

  /** To be called when the kernel has the present ways. */
  endStale(families: readonly IpFamily[]): void {
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

/** To a port that changed, or to a container by whichever port of the host. */
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
