import type { IpAddress } from '../ip/address.ts';
import { hostCidr, type Cidr } from '../ip/cidr.ts';
import { IdsByKey } from '../model/ids-by-key.ts';

/** A container on a network, as names refer to it. */
export interface NamedEndpoint {
  readonly node: string;
  /** The network's name, which is its identity on all hosts. */
  readonly network: string;
  /** The container's name; `undefined` until Docker has provided it. */
  readonly name: string | undefined;
  readonly aliases: readonly string[];
  /** Its addresses, those from Docker first. */
  readonly nets: readonly Cidr[];
}

/**
 * Containers of all hosts by network and name, and by network and address. DNS names are case-insensitive (RFC 4343);
 * networks of Docker are not.
 */
export class NameIndex {
  readonly #node: string;
  readonly #endpoints = new Map<string, NamedEndpoint>();
  readonly #networks = new Map<string, NetworkNames>();

  /** `node`: this host. */
  constructor(node: string) {
    this.#node = node;
  }

  /** Sets the current state of an endpoint. */
  set(id: string, endpoint: NamedEndpoint | undefined): void {
    const before = this.#endpoints.get(id);
    if (before !== undefined) this.#remove(id, before);
    if (endpoint === undefined) {
      this.#endpoints.delete(id);
      return;
    }
    this.#endpoints.set(id, endpoint);
    const network = this.#networks.get(endpoint.network) ?? new NetworkNames();
    this.#networks.set(endpoint.network, network);
    network.size++;
    if (endpoint.node !== this.#node) network.remote++;
    for (const name of namesOf(endpoint)) network.byName.add(name, id);
    for (const net of endpoint.nets) network.byNet.add(net, id);
  }

  /** Returns the number of endpoints. */
  get size(): number {
    return this.#endpoints.size;
  }

  /** Reports whether containers of other hosts are on the network. */
  hasRemote(network: string): boolean {
    return (this.#networks.get(network)?.remote ?? 0) > 0;
  }

  /** Returns the endpoints of a network that have a name or alias, in any order. */
  named(network: string, name: string): readonly NamedEndpoint[] {
    return this.#found(this.#networks.get(network)?.byName.ids(name.toLowerCase()));
  }

  /** Returns the endpoints of a network with an address. */
  withAddress(network: string, address: IpAddress): readonly NamedEndpoint[] {
    return this.#found(this.#networks.get(network)?.byNet.ids(hostCidr(address)));
  }

  #found(ids: ReadonlySet<string> | undefined): readonly NamedEndpoint[] {
    return [...(ids ?? [])].flatMap((id) => this.#endpoints.get(id) ?? []);
  }

  #remove(id: string, endpoint: NamedEndpoint): void {
    const network = this.#networks.get(endpoint.network);
    if (network === undefined) return;
    network.size--;
    if (endpoint.node !== this.#node) network.remote--;
    for (const name of namesOf(endpoint)) network.byName.remove(name, id);
    for (const net of endpoint.nets) network.byNet.remove(net, id);
    if (network.size === 0) this.#networks.delete(endpoint.network);
  }
}

class NetworkNames {
  readonly byName = new IdsByKey();
  readonly byNet = new IdsByKey();
  size = 0;
  /** Endpoints of other hosts. */
  remote = 0;
}

function namesOf({ name, aliases }: NamedEndpoint): readonly string[] {
  const own = name === undefined ? [] : [name.toLowerCase()];
  return aliases.length === 0 ? own : [...own, ...aliases.map((alias) => alias.toLowerCase())];
}
