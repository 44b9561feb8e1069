import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, isHostCidr, type Cidr } from '../../ip/cidr.ts';
import { portProtocol } from '../../ip/port-protocol.ts';
import type { BriefEndpoint } from '../../model/briefs.ts';
import { IdsByKey } from '../../model/ids-by-key.ts';
import { namedPortSet } from '../../ruleset/names.ts';
import type { NamedPort } from '../../ruleset/policy.ts';
import type { SetOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';

/** One address where an endpoint has a port by a name. */
interface Place {
  readonly name: string;
  readonly family: IpFamily;
  /** As `AddressSetType` has it. */
  readonly member: string;
}

interface NameInUse {
  readonly id: string;
  uses: number;
  /** How many endpoints have a member, by family and member. */
  readonly counts: Map<string, number>;
}

/**
 * One set of (address, protocol, port) per port name in use and family: where the endpoints of all hosts have the
 * ports of that name. An endpoint without named ports costs nothing.
 */
export class NamedPorts {
  readonly #families: readonly IpFamily[];
  readonly #output: SetOutput;
  readonly #work: WorkCount;
  readonly #places = new Map<string, readonly Place[]>();
  readonly #endpointsByName = new IdsByKey();
  readonly #names = new Map<string, NameInUse>();

  constructor(families: readonly IpFamily[], output: SetOutput, work: WorkCount) {
    this.#families = families;
    this.#output = output;
    this.#work = work;
  }

  /** An endpoint of any host as it is now; `undefined`: it is gone. */
  setEndpoint(id: string, endpoint: Pick<BriefEndpoint, 'nets' | 'ports'> | undefined): void {
    if ((endpoint?.ports.length ?? 0) === 0 && !this.#places.has(id)) return;
    const before = this.#places.get(id) ?? [];
    const now = endpoint === undefined ? [] : this.#placesOf(endpoint);
    if (before.length + now.length === 0) return;
    // Members that stay never lose their count meanwhile.
    for (const place of now) {
      this.#endpointsByName.add(place.name, id);
      this.#count(place, 1);
    }
    const names = new Set(now.map(({ name }) => name));
    for (const place of before) {
      if (!names.has(place.name)) this.#endpointsByName.remove(place.name, id);
      this.#count(place, -1);
    }
    if (now.length === 0) this.#places.delete(id);
    else this.#places.set(id, now);
  }

  /** Adds a use of the name's sets, until they are released as often. */
  use({ id, name }: NamedPort): void {
    const known = this.#names.get(name);
    if (known !== undefined) {
      known.uses++;
      return;
    }
    for (const family of this.#families) {
      const set = namedPortSet(family, id);
      this.#output.addSet({ name: set, type: 'address,port', family });
    }
    this.#names.set(name, { id, uses: 1, counts: new Map() });
    for (const endpoint of this.#endpointsByName.ids(name)) {
      for (const place of this.#places.get(endpoint) ?? []) {
        if (place.name === name) this.#count(place, 1);
      }
    }
  }

  release({ id, name }: NamedPort): void {
    const known = this.#names.get(name);
    if (known === undefined) return;
    known.uses--;
    if (known.uses > 0) return;
    this.#names.delete(name);
    for (const family of this.#families) this.#output.removeSet(namedPortSet(family, id));
  }

  /** Reports whether an endpoint has a port of a name in use: `protocol` is its number. */
  contains(name: string, address: Cidr, { protocol, port }: NumberedPort): boolean {
    const member = memberOf(address, protocol, port);
    const counts = this.#names.get(name)?.counts;
    return member !== undefined && counts?.has(member) === true;
  }

  #placesOf({ nets, ports }: Pick<BriefEndpoint, 'nets' | 'ports'>): readonly Place[] {
    const places = ports.flatMap(({ name, protocol, port }) =>
      nets.flatMap((address): readonly Place[] => {
        const family = cidrFamily(address);
        if (name === '' || !this.#families.includes(family) || !isHostCidr(address)) return [];
        const member = memberOf(address, protocol, port);
        return member === undefined ? [] : [{ name, family, member }];
      }),
    );
    return [...new Map(places.map((place) => [`${place.name} ${place.member}`, place])).values()];
  }

  #count({ name, family, member }: Place, change: 1 | -1): void {
    const known = this.#names.get(name);
    if (known === undefined) return;
    const before = known.counts.get(member) ?? 0;
    const now = before + change;
    if (now <= 0) known.counts.delete(member);
    else known.counts.set(member, now);
    if (before > 0 === now > 0) return;
    this.#work.membersEmitted++;
    const set = namedPortSet(family, known.id);
    if (now > 0) this.#output.addMember(set, member);
    else this.#output.removeMember(set, member);
  }
}

/** A port with its protocol's number. */
export interface NumberedPort {
  readonly protocol: number;
  readonly port: number;
}

/** `undefined` for protocols without ports. */
function memberOf(address: Cidr, protocol: string | number, port: number): string | undefined {
  const known = portProtocol(protocol);
  if (known === undefined || port < 1 || port > 65_535) return undefined;
  return `${address},${known.toLowerCase()}:${port}`;
}
