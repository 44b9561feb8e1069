import type { IpFamily } from '../ip/address.ts';
import { cidrFamily, isHostCidr, type Cidr } from '../ip/cidr.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import { networkSetMember, type NetworkSet } from '../model/kinds/network-set.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { SetFault } from '../ruleset/address-set.ts';
import { countingSets, dropChains, restMembers } from '../render/iptables/drop-reasons.ts';
import { FamilyGroups } from './select/family-groups.ts';
import { groupName, setsOfGroup } from '../render/iptables/group-chains.ts';
import { isWorkloadInterface, restSet, workloadsSet } from '../render/iptables/names.ts';
import { noWork, type PolicyOutput } from './output.ts';
import {
  compileProfile,
  type CompiledProfile,
  type DropMeaning,
} from './compile/profile-chains.ts';
import { SelectorSets, type SelectorMember } from './select/selector-sets.ts';

export interface PolicyEngineOptions {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly output: PolicyOutput;
}

interface LocalEndpoint {
  readonly endpoint: WorkloadEndpoint;
  /** What it is now part of; `undefined` while another endpoint has its interface. */
  placed: Placed | undefined;
}

interface Placed {
  readonly group: string;
  readonly members: readonly Member[];
}

interface Member {
  readonly family: IpFamily;
  /** `<address>/32,<interface>`. */
  readonly text: string;
}

/**
 * Turns Profiles and endpoints into chains and address sets, change by change: what one change costs does not
 * depend on how much else there is. Its output depends on the present state alone, whatever came before; but
 * chains of a policy that no endpoint has any more stay until `dropIdle`, so that a container that comes back
 * finds them.
 */
export class PolicyEngine {
  readonly work = noWork();
  readonly #node: string;
  readonly #families: readonly IpFamily[];
  readonly #output: PolicyOutput;
  readonly #selectorSets: SelectorSets;
  readonly #groups: ReadonlyMap<IpFamily, FamilyGroups>;
  readonly #local = new Map<string, LocalEndpoint>();
  readonly #memberCounts = new Map<string, number>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new IdsByKey();

  constructor({ node, families, output }: PolicyEngineOptions) {
    this.#node = node;
    this.#families = families;
    this.#output = output;
    this.#selectorSets = new SelectorSets(families, output, this.work);
    const shared = { output, selectorSets: this.#selectorSets, work: this.work };
    this.#groups = new Map(
      families.map((family) => [family, new FamilyGroups({ ...shared, family })]),
    );
  }

  /** Puts out what is there without any endpoint. */
  start(): void {
    for (const [family, groups] of this.#groups) {
      const set = { type: 'net,interface', family } as const;
      this.#output.wantSet({ ...set, name: workloadsSet(family), countsPackets: false });
      for (const spec of countingSets(family)) this.#output.wantSet(spec);
      for (const member of restMembers(family)) this.#output.addMember(restSet(family), member);
      for (const chain of dropChains('filter', family)) this.#output.setChain(family, chain);
      groups.start();
    }
  }

  /** A Profile as it is now; `undefined`: it is gone. */
  setProfile(name: string, profile: Profile | undefined): void {
    this.#selectorSets.setProfileLabels(name, profile?.spec.labelsToApply);
    for (const groups of this.#groups.values()) groups.setProfile(name, profile);
  }

  /** An endpoint of any host as it is now; `undefined`: it is gone. */
  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    if (endpoint === undefined) this.#selectorSets.removeMember(id);
    else this.#selectorSets.setMember(id, memberOf(endpoint));
    const local = endpoint?.spec.node === this.#node ? endpoint : undefined;
    const before = this.#local.get(id);
    if (local === undefined && before === undefined) return;
    const touched = new Set([id, ...this.#neighbours(before?.endpoint)]);
    if (before !== undefined) this.#unlist(id, before.endpoint);
    if (local === undefined) {
      if (before?.placed !== undefined) this.#leave(id, before.placed);
      this.#local.delete(id);
    } else {
      this.#local.set(id, { endpoint: local, placed: before?.placed });
      this.#list(id, local);
    }
    for (const neighbour of this.#neighbours(local)) touched.add(neighbour);
    for (const neighbour of touched) this.#place(neighbour);
  }

  /** Whether all is there that leads to an endpoint's policy, by what the kernel says of the members of sets. */
  isPlaced({ spec }: WorkloadEndpoint, isHeld: (set: string, member: string) => boolean): boolean {
    const placed = [...this.#byInterface.ids(spec.interfaceName)]
      .map((id) => this.#local.get(id))
      .find((local) => local?.endpoint.spec.endpoint === spec.endpoint)?.placed;
    return (
      placed !== undefined &&
      placed.members.every(({ family, text }) =>
        [workloadsSet(family), ...setsOfGroup(placed.group, family)].every((set) =>
          isHeld(set, text),
        ),
      )
    );
  }

  /**
   * What the kernel has not as wanted of sets, by name: Profiles that would let more pass for it deny everything.
   * Answers whether chains have changed.
   */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    const changed = [...this.#groups.values()].map(({ profiles }) => profiles.setFaults(faults));
    return changed.includes(true);
  }

  /** A NetworkSet or GlobalNetworkSet as it is now, by kind and id; `undefined`: it is gone. */
  setNetworkSet(id: string, set: NetworkSet | undefined): void {
    if (set === undefined) this.#selectorSets.removeMember(id);
    else this.#selectorSets.setMember(id, networkSetMember(set));
  }

  /** Drops chains and sets of policies that no endpoint has. */
  dropIdle(): void {
    for (const groups of this.#groups.values()) groups.dropIdle();
  }

  /** Whether there is something for `dropIdle`. */
  get hasIdle(): boolean {
    return [...this.#groups.values()].some(({ hasIdle }) => hasIdle);
  }

  /** Why Profiles in use deny everything, by name. */
  problems(): ReadonlyMap<string, string> {
    return new Map([...this.#groups.values()].flatMap(({ profiles }) => [...profiles.problems()]));
  }

  /** What each counting set of a rule counts. */
  dropMeanings(): readonly DropMeaning[] {
    return [...this.#groups.values()].flatMap(({ profiles }) => profiles.dropMeanings());
  }

  /** A Profile as it is enforced in a family; without the family everything is denied. */
  compiled(family: IpFamily, name: string): CompiledProfile {
    const groups = this.#groups.get(family);
    return groups?.profiles.compiled(name) ?? compileProfile(name, undefined);
  }

  /** Whether an address is that of an endpoint which a selector in use matches. */
  selectorContains(selectorId: string, network: Cidr): boolean {
    return this.#selectorSets.contains(selectorId, network);
  }

  /** Endpoints that share a container or an interface with one. */
  #neighbours(endpoint: WorkloadEndpoint | undefined): readonly string[] {
    if (endpoint === undefined) return [];
    return [
      ...this.#bySandbox.ids(sandboxOf(endpoint)),
      ...this.#byInterface.ids(endpoint.spec.interfaceName),
    ];
  }

  #list(id: string, endpoint: WorkloadEndpoint): void {
    this.#byInterface.add(endpoint.spec.interfaceName, id);
    this.#bySandbox.add(sandboxOf(endpoint), id);
  }

  #unlist(id: string, endpoint: WorkloadEndpoint): void {
    this.#byInterface.remove(endpoint.spec.interfaceName, id);
    this.#bySandbox.remove(sandboxOf(endpoint), id);
  }

  /** Makes one local endpoint part of what it should be part of, and of nothing else. */
  #place(id: string): void {
    const local = this.#local.get(id);
    if (local === undefined) return;
    this.work.endpointsVisited++;
    const wanted = this.#wantedPlace(id, local.endpoint);
    const before = local.placed;
    if (isSamePlace(before, wanted)) return;
    local.placed = wanted;
    if (wanted !== undefined) this.#enter(id, wanted, before);
    if (before !== undefined) this.#leave(id, before, wanted);
  }

  #wantedPlace(id: string, endpoint: WorkloadEndpoint): Placed | undefined {
    const { interfaceName, profiles = [] } = endpoint.spec;
    // The interfaces of others are not looked at by our chains.
    if (!isWorkloadInterface(interfaceName)) return undefined;
    const rivals = [...this.#byInterface.ids(interfaceName)];
    // Two endpoints with one interface cannot both be right; the same one is chosen on every start.
    if (rivals.some((rival) => rival < id)) return undefined;
    const networks = this.#networksOfContainer(endpoint);
    return {
      group: groupName(profiles),
      members: networks.map((network) => ({
        family: cidrFamily(network),
        text: `${network},${interfaceName}`,
      })),
    };
  }

  /**
   * A container's packets may carry any of its addresses, on whichever interface they leave. A network would let
   * it use the addresses of others.
   */
  #networksOfContainer(endpoint: WorkloadEndpoint): readonly Cidr[] {
    const siblings = [...this.#bySandbox.ids(sandboxOf(endpoint))];
    const networks = [
      ...(endpoint.spec.ipNetworks ?? []),
      ...siblings.flatMap((id) => this.#local.get(id)?.endpoint.spec.ipNetworks ?? []),
    ];
    return [...new Set(networks)]
      .filter((network) => this.#families.includes(cidrFamily(network)) && isHostCidr(network))
      .toSorted();
  }

  #enter(id: string, { group, members }: Placed, before: Placed | undefined): void {
    const profiles = this.#local.get(id)?.endpoint.spec.profiles ?? [];
    for (const family of familiesOf(members)) {
      this.#groups.get(family)?.enter(group, profiles, id);
    }
    const known = before?.group === group ? before.members : [];
    for (const { family, text } of members) {
      if (known.some((member) => member.text === text)) continue;
      for (const set of [workloadsSet(family), ...setsOfGroup(group, family)]) {
        this.#addMember(set, text);
      }
    }
  }

  #leave(id: string, { group, members }: Placed, now?: Placed): void {
    const staysIn = now?.group === group ? familiesOf(now.members) : new Set();
    for (const family of familiesOf(members)) {
      if (!staysIn.has(family)) this.#groups.get(family)?.leave(group, id);
    }
    const kept = new Set(now?.group === group ? now.members.map(({ text }) => text) : []);
    for (const { family, text } of members) {
      if (kept.has(text)) continue;
      for (const set of [workloadsSet(family), ...setsOfGroup(group, family)]) {
        this.#removeMember(set, text);
      }
    }
  }

  /** Two endpoints may want the same member, as long as one of them takes the other's interface over. */
  #addMember(set: string, text: string): void {
    const key = `${set} ${text}`;
    const count = this.#memberCounts.get(key) ?? 0;
    this.#memberCounts.set(key, count + 1);
    if (count > 0) return;
    this.work.membersEmitted++;
    this.#output.addMember(set, text);
  }

  #removeMember(set: string, text: string): void {
    const key = `${set} ${text}`;
    const count = this.#memberCounts.get(key) ?? 0;
    if (count > 1) {
      this.#memberCounts.set(key, count - 1);
      return;
    }
    this.#memberCounts.delete(key);
    this.work.membersEmitted++;
    this.#output.removeMember(set, text);
  }
}

function memberOf({ metadata, spec }: WorkloadEndpoint): SelectorMember {
  return {
    nets: [...new Set(spec.ipNetworks)],
    labels: metadata.labels ?? {},
    profiles: spec.profiles ?? [],
  };
}

function familiesOf(members: readonly Member[]): ReadonlySet<IpFamily> {
  return new Set(members.map(({ family }) => family));
}

function sandboxOf(endpoint: WorkloadEndpoint): string | undefined {
  return endpoint.metadata.annotations?.[endpointAnnotations.sandbox];
}

function isSamePlace(a: Placed | undefined, b: Placed | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.group === b.group &&
    a.members.length === b.members.length &&
    a.members.every(({ text }, index) => text === b.members[index]?.text)
  );
}
