import type { EntryChange } from '../../cache/mirror.ts';
import type { AddressSets } from '../../dataplane/address-sets.ts';
import { ReferenceCounts } from '../../dataplane/reference-counts.ts';
import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { natSets } from '../../ruleset/names.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import { localEndpoint } from './local-endpoint.ts';

type NatSets = Pick<AddressSets, 'setDesired' | 'addMember' | 'removeMember'>;

interface NatMembersDeps extends Pick<ManagerDeps, 'node' | 'families'> {
  readonly kernel: { readonly sets: NatSets };
}

/** Maintains the sets that outgoing NAT matches: pools, pools with NAT, and endpoints that override their pool. */
export class NatMembers implements Manager<'IPPool' | 'WorkloadEndpoint'> {
  readonly name = 'outgoing NAT';
  readonly kinds = ['IPPool', 'WorkloadEndpoint'] as const;
  readonly #node: string;
  readonly #sets: NatSets;
  readonly #families: readonly IpFamily[];
  /** Members from pools and endpoints. */
  readonly #members: ReferenceCounts<readonly [set: string, member: string]>;

  constructor({ node, families, kernel: { sets } }: NatMembersDeps) {
    this.#node = node;
    this.#sets = sets;
    this.#families = families;
    this.#members = new ReferenceCounts(([set, member]) => `${set} ${member}`, {
      setDesired: ([set, member]) => sets.addMember(set, member),
      deleteDesired: ([set, member]) => sets.removeMember(set, member),
    });
  }

  start(): void {
    for (const family of this.#families) {
      for (const name of Object.values(natSets)) {
        this.#sets.setDesired({ name: name(family), type: 'net', family });
      }
    }
  }

  onChange(change: EntryChange<'IPPool' | 'WorkloadEndpoint'>): void {
    if (change.kind === 'IPPool') this.setPool(change.id, change.now?.value);
    else this.setEndpoint(change.id, localEndpoint(this.#node, change));
  }

  /** A disabled pool still counts as internal: traffic to its addresses is not masqueraded. */
  setPool(name: string, pool: IpPool | undefined): void {
    if (pool === undefined || !this.#families.includes(cidrFamily(pool.spec.cidr))) {
      return this.#members.set(`pool ${name}`, []);
    }
    const { cidr, natOutgoing } = pool.spec;
    const family = cidrFamily(cidr);
    this.#members.set(`pool ${name}`, [
      [natSets.allPools(family), cidr],
      ...(natOutgoing === true ? [[natSets.masqueradedPools(family), cidr] as const] : []),
    ]);
  }

  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const wish = endpoint?.metadata.annotations?.[endpointAnnotations.natOutgoing];
    const networks = endpoint?.spec.ipNetworks ?? [];
    this.#members.set(
      `endpoint ${id}`,
      networks
        .filter((one) => wish !== undefined && this.#families.includes(cidrFamily(one)))
        .map((network) => {
          const family = cidrFamily(network);
          const set = wish === 'true' ? natSets.masqueradedEndpoints : natSets.plainEndpoints;
          return [set(family), network] as const;
        }),
    );
  }
}
