import type { IpFamily } from '../ip/address.ts';
import { cidrFamily, isHostCidr, type Cidr } from '../ip/cidr.ts';
import { briefEndpoint, type BriefEndpoint } from '../model/briefs.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import { networkSetMember, type NetworkSet } from '../model/kinds/network-set.ts';
import { defaultAllowProfile, isDefaultAllow, type Profile } from '../model/kinds/profile.ts';
import {
  endpointAnnotations,
  endpointPrefixes,
  type WorkloadEndpoint,
} from '../model/kinds/workload-endpoint.ts';
import type { SetFault } from '../ruleset/address-set.ts';
import type { Dispatch, Stack } from '../ruleset/policy.ts';
import { ActiveStacks } from './select/active-stacks.ts';
import { isWorkloadInterface } from '../ruleset/names.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { noWork } from './work-count.ts';
import { compileProfile, type CompiledProfile } from './compile/compiled-profile.ts';
import { stackOf } from './compile/stack.ts';
import { NamedPorts, type NumberedPort } from './select/named-ports.ts';
import { SelectorSets, type SelectorMember } from './select/selector-sets.ts';

export interface PolicyEngineOptions {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly output: PolicyOutput;
}

interface LocalEndpoint {
  readonly endpoint: WorkloadEndpoint;
  /** Its present place; `undefined` while another endpoint has its interface. */
  placed: Placed | undefined;
}

interface Placed {
  readonly stack: Stack;
  readonly dispatches: readonly Dispatch[];
}

/**
 * Turns Profiles and endpoints into policies, stacks and address sets, incrementally: the cost of a change does not
 * depend on the number of other objects. Its output depends on the present state alone, except that unused stacks stay
 * until `dropIdle`, so that a restarted container finds them.
 */
export class PolicyEngine {
  readonly work = noWork();
  readonly #node: string;
  readonly #families: readonly IpFamily[];
  readonly #output: PolicyOutput;
  readonly #selectorSets: SelectorSets;
  readonly #namedPorts: NamedPorts;
  readonly #stacks: ReadonlyMap<IpFamily, ActiveStacks>;
  readonly #local = new Map<string, LocalEndpoint>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new IdsByKey();

  constructor({ node, families, output }: PolicyEngineOptions) {
    this.#node = node;
    this.#families = families;
    this.#output = output;
    this.#selectorSets = new SelectorSets(families, output, this.work);
    this.#namedPorts = new NamedPorts(families, output, this.work);
    const shared = {
      output,
      selectorSets: this.#selectorSets,
      namedPorts: this.#namedPorts,
      work: this.work,
    };
    this.#stacks = new Map(
      families.map((family) => [family, new ActiveStacks({ ...shared, family })]),
    );
    this.setProfile(defaultAllowProfile.metadata.name, defaultAllowProfile);
  }

  /** Sets a Profile; `undefined`: it was deleted. */
  setProfile(name: string, stored: Profile | undefined): void {
    const profile = isDefaultAllow(name) ? defaultAllowProfile : stored;
    this.#selectorSets.setProfileLabels(name, profile?.spec.labelsToApply);
    for (const stacks of this.#stacks.values()) stacks.profiles.set(name, profile);
  }

  /** An endpoint of any host as it is now; `undefined`: it is gone. */
  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    this.setRemote(id, endpoint && briefEndpoint(endpoint));
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

  /** An endpoint of another host as it is now; `undefined`: it is gone. */
  setRemote(id: string, endpoint: BriefEndpoint | undefined): void {
    if (endpoint === undefined) this.#selectorSets.removeMember(id);
    else this.#selectorSets.setMember(id, memberOf(endpoint));
    this.#namedPorts.setEndpoint(id, endpoint);
  }

  /** What leads to an endpoint's policy; `undefined` while it has no place here. */
  dispatchesOf({ spec }: WorkloadEndpoint): readonly Dispatch[] | undefined {
    return [...this.#byInterface.ids(spec.interfaceName)]
      .map((id) => this.#local.get(id))
      .find((local) => local?.endpoint.spec.endpoint === spec.endpoint)?.placed?.dispatches;
  }

  /**
   * Sets the kernel sets that are out of sync, by name: Profiles that would allow more because of them deny
   * everything. Returns whether a policy has changed.
   */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    const changed = [...this.#stacks.values()].map(({ profiles }) => profiles.setFaults(faults));
    return changed.includes(true);
  }

  /** Sets a NetworkSet or GlobalNetworkSet, by kind and id; `undefined`: it was deleted. */
  setNetworkSet(id: string, set: NetworkSet | undefined): void {
    if (set === undefined) this.#selectorSets.removeMember(id);
    else this.#selectorSets.setMember(id, networkSetMember(set));
  }

  /** Removes stacks and policies that no endpoint uses. */
  dropIdle(): void {
    for (const stacks of this.#stacks.values()) stacks.dropIdle();
  }

  /** Reports whether `dropIdle` has something to remove. */
  get hasIdle(): boolean {
    return [...this.#stacks.values()].some(({ hasIdle }) => hasIdle);
  }

  /** Returns the Profiles in use that deny everything, with the reason, by name. */
  problems(): ReadonlyMap<string, string> {
    return new Map([...this.#stacks.values()].flatMap(({ profiles }) => [...profiles.problems()]));
  }

  /** Returns a Profile as enforced in a family; without the family everything is denied. */
  compiled(family: IpFamily, name: string): CompiledProfile {
    const stacks = this.#stacks.get(family);
    return stacks?.profiles.compiled(name) ?? compileProfile(name, undefined);
  }

  /** Reports whether a selector in use matches an endpoint with the address. */
  selectorContains(selectorId: string, network: Cidr): boolean {
    return this.#selectorSets.contains(selectorId, network);
  }

  /** Reports whether an endpoint has a port of a name in use. */
  hasNamedPort(name: string, address: Cidr, port: NumberedPort): boolean {
    return this.#namedPorts.contains(name, address, port);
  }

  /** Returns the endpoints that share a container or an interface with one. */
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

  /** Updates the stack and dispatches of a local endpoint. */
  #place(id: string): void {
    const local = this.#local.get(id);
    if (local === undefined) return;
    this.work.endpointsVisited++;
    const desired = this.#desiredPlace(id, local.endpoint);
    const before = local.placed;
    if (isSamePlace(before, desired)) return;
    local.placed = desired;
    if (desired !== undefined) this.#enter(id, desired, before);
    if (before !== undefined) this.#leave(id, before, desired);
  }

  #desiredPlace(id: string, endpoint: WorkloadEndpoint): Placed | undefined {
    const { interfaceName, profiles = [] } = endpoint.spec;
    // Our chains do not match interfaces of other programs.
    if (!isWorkloadInterface(interfaceName)) return undefined;
    const rivals = [...this.#byInterface.ids(interfaceName)];
    // Of two endpoints with one interface only one can be right; the same one is chosen on every start.
    if (rivals.some((rival) => rival < id)) return undefined;
    const networks = this.#networksOfContainer(endpoint);
    const stack = stackOf(profiles);
    return {
      stack,
      dispatches: networks.map((address) => ({
        family: cidrFamily(address),
        address,
        interface: interfaceName,
        stack: stack.name,
      })),
    };
  }

  /**
   * A container's packets may have any of its addresses as source, on any of its interfaces, and addresses of the
   * prefixes behind it. Another network in `ipNetworks` would let it use addresses of others.
   */
  #networksOfContainer(endpoint: WorkloadEndpoint): readonly Cidr[] {
    const siblings = [...this.#bySandbox.ids(sandboxOf(endpoint))];
    const networks = [
      ...(endpoint.spec.ipNetworks ?? []),
      ...siblings.flatMap((id) => this.#local.get(id)?.endpoint.spec.ipNetworks ?? []),
    ].filter(isHostCidr);
    const prefixes = [endpoint, ...siblings.map((id) => this.#local.get(id)?.endpoint)].flatMap(
      endpointPrefixes,
    );
    return [...new Set([...networks, ...prefixes])]
      .filter((network) => this.#families.includes(cidrFamily(network)))
      .toSorted();
  }

  #enter(id: string, { stack, dispatches }: Placed, before: Placed | undefined): void {
    for (const family of familiesOf(dispatches)) {
      this.#stacks.get(family)?.enter(stack, id);
    }
    for (const dispatch of dispatches) {
      if (has(before, dispatch)) continue;
      this.work.membersEmitted++;
      this.#output.addDispatch(dispatch);
    }
  }

  #leave(id: string, { stack, dispatches }: Placed, now?: Placed): void {
    const staysIn = now?.stack.name === stack.name ? familiesOf(now.dispatches) : new Set();
    for (const family of familiesOf(dispatches)) {
      if (!staysIn.has(family)) this.#stacks.get(family)?.leave(stack.name, id);
    }
    for (const dispatch of dispatches) {
      if (has(now, dispatch)) continue;
      this.work.membersEmitted++;
      this.#output.removeDispatch(dispatch);
    }
  }
}

/** Returns the member of selector sets: an endpoint with the prefixes behind it, so a tag means both. */
function memberOf(endpoint: BriefEndpoint): SelectorMember {
  const { nets, prefixes } = endpoint;
  return prefixes.length === 0
    ? endpoint
    : { ...endpoint, nets: [...new Set([...nets, ...prefixes])] };
}

function familiesOf(dispatches: readonly Dispatch[]): ReadonlySet<IpFamily> {
  return new Set(dispatches.map(({ family }) => family));
}

function has(placed: Placed | undefined, { address, interface: name, stack }: Dispatch): boolean {
  return (
    placed?.dispatches.some(
      (one) => one.address === address && one.interface === name && one.stack === stack,
    ) ?? false
  );
}

function sandboxOf(endpoint: WorkloadEndpoint): string | undefined {
  return endpoint.metadata.annotations?.[endpointAnnotations.sandbox];
}

function isSamePlace(a: Placed | undefined, b: Placed | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.stack.name === b.stack.name &&
    a.dispatches.length === b.dispatches.length &&
    a.dispatches.every((dispatch) => has(b, dispatch))
  );
}
