import { isDeepStrictEqual } from 'node:util';
import { inSlices } from '../async/slices.ts';
import type { IpFamily } from '../ip/address.ts';
import type { Cidr } from '../ip/cidr.ts';
import { briefEndpoint, type BriefEndpoint } from '../model/briefs.ts';
import type { HostEndpoint } from '../model/kinds/host-endpoint.ts';
import { networkSetMember, type NetworkSet } from '../model/kinds/network-set.ts';
import { defaultAllowProfile, effectiveProfile, type Profile } from '../model/kinds/profile.ts';
import { hasUnknownLabels, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { SetFault } from '../ruleset/address-set.ts';
import type { Failsafes, GuardedStages } from '../ruleset/host-endpoint.ts';
import {
  isStaged,
  policyKey,
  profilePolicy,
  type Dispatch,
  type EnforcedKind,
  type PolicyId,
  type Stack,
} from '../ruleset/policy.ts';
import type { StoredPolicy } from './select/active-policies.ts';
import { ActiveStacks } from './select/active-stacks.ts';
import { SelectedPolicies, type HostTiers } from './select/selected-policies.ts';
import type { Tier } from '../model/kinds/tier.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { HostEndpoints } from './host-endpoints.ts';
import { Placements } from './placements.ts';
import { noWork } from './work-count.ts';
import { type CompiledPolicy, compilePolicy } from './compile/compiled-policy.ts';
import {
  readPolicy,
  readUnreadablePolicy,
  type SelectingKind,
  type SelectingPolicy,
  type SelectingResource,
} from './compile/policy-source.ts';
import { stackOf } from './compile/stack.ts';
import { NamedPorts, type NumberedPort } from './select/named-ports.ts';
import { SelectorSets } from './select/selector-sets.ts';
import {
  domainsKey,
  domainsMember,
  hostItem,
  memberOf,
  type SetDomains,
} from './selectable-items.ts';

export interface PolicyEngineOptions {
  readonly node: string;
  readonly families: readonly IpFamily[];
  readonly output: PolicyOutput;
  /** Notified when other rules of the host are needed for host endpoints. */
  readonly onGuardedStages?: (stages: GuardedStages | undefined) => void;
}

/**
 * Turns Profiles, policies, tiers and endpoints into stacks of policies and address sets, incrementally: the cost of a
 * change does not depend on the number of other objects. Its output depends on the present state alone, except that
 * unused stacks stay until `dropIdle`, so that a restarted container finds them.
 */
export class PolicyEngine {
  readonly work = noWork();
  readonly #node: string;
  readonly #selectorSets: SelectorSets;
  readonly #namedPorts: NamedPorts;
  readonly #stacks: ReadonlyMap<IpFamily, ActiveStacks>;
  readonly #selected: SelectedPolicies;
  /** By `policyKey`. */
  readonly #stored = new Map<string, StoredPolicy>();
  readonly #placements: Placements;
  readonly #hosts: HostEndpoints;
  /** Policies whose rules changed since chains were written; of those, the ones that are being written. */
  readonly #changed = new Set<string>();
  readonly #changing = new Set<string>();
  readonly #held = new Set<string>();
  /** Network sets with domain names. */
  readonly #withDomains = new Set<string>();
  /** Whether changes wait for `#place`. */
  #isCollecting = false;

  constructor({ node, families, output, onGuardedStages }: PolicyEngineOptions) {
    this.#node = node;
    this.#selectorSets = new SelectorSets(families, output, this.work);
    this.#namedPorts = new NamedPorts(families, output, this.work);
    const shared = {
      output,
      selectorSets: this.#selectorSets,
      namedPorts: this.#namedPorts,
      work: this.work,
      stored: this.#stored,
    };
    this.#stacks = new Map(
      families.map((family) => [family, new ActiveStacks({ ...shared, family })]),
    );
    this.#selected = new SelectedPolicies((id) => {
      if (id.startsWith(hostPrefix)) this.#hosts.touch();
      else this.#placements.touch(id);
    }, this.work);
    this.#hosts = new HostEndpoints({
      output,
      policies: new Map([...this.#stacks].map(([family, { policies }]) => [family, policies])),
      tiersOf: (id) => this.#selected.hostTiersOf(`${hostPrefix}${id}`),
      onStages: onGuardedStages ?? (() => undefined),
    });
    this.#placements = new Placements({
      families,
      output,
      stacks: this.#stacks,
      stackOf: (id, endpoint) => this.#desiredStack(id, endpoint),
      work: this.work,
    });
    this.setProfile(defaultAllowProfile.metadata.name, defaultAllowProfile);
  }

  /** Sets a Profile; `undefined`: it was deleted. */
  setProfile(name: string, stored: Profile | undefined): void {
    const profile = effectiveProfile(name, stored);
    const { labelsToApply } = profile?.spec ?? {};
    this.#selectorSets.setProfileLabels(name, labelsToApply);
    this.#selected.setProfileLabels(name, labelsToApply);
    const id = profilePolicy(name);
    this.#store(policyKey(id), profile && { id, rules: profile.spec });
    this.#placeUnlessCollecting();
  }

  /**
   * Changes from here on take effect together, with the next round or the next question: a listing, or a file of many
   * policies, changes the stack of an endpoint once, not once for each policy.
   */
  collect(): void {
    this.#isCollecting = true;
  }

  /** Makes the changes so far take effect, with pauses for other work; `undefined`: there are none. */
  settle(): Promise<void> | undefined {
    if (this.#placements.isPlaced) return undefined;
    return inSlices(this.settleInSteps(), { atOnce: 1, act: () => undefined });
  }

  /** Likewise: changes may come between two steps, and belong to what remains. */
  settleInSteps(): Iterable<undefined> {
    return this.#placements.placeInSteps();
  }

  #placeUnlessCollecting(): void {
    if (!this.#isCollecting) this.#place();
  }

  #place(): void {
    this.#isCollecting = false;
    this.#placements.place();
    this.#hosts.place();
  }

  /** Sets a tier; `undefined`: it was deleted. */
  setTier(name: string, tier: Tier | undefined): void {
    this.#selected.setTier(name, tier?.spec);
    this.#placeUnlessCollecting();
  }

  /** Sets a policy, by the ID under which it is stored; `undefined`: it was deleted. */
  setPolicy(kind: SelectingKind, id: string, resource: SelectingResource | undefined): void {
    const { key, policy } = readPolicy(kind, id, resource);
    this.#setSelecting(key, policy);
  }

  /** Sets a stored policy that cannot be read: it denies what it selects, as far as that can be read. */
  setUnreadablePolicy(
    kind: EnforcedKind,
    id: string,
    unreadable: { readonly why: string; readonly text: string },
  ): void {
    const { key, policy } = readUnreadablePolicy(kind, id, unreadable);
    this.#setSelecting(key, policy);
  }

  #setSelecting(key: string, policy: SelectingPolicy | undefined): void {
    if (policy === undefined) {
      this.#selected.removePolicy(key);
      // No endpoint will have it any more; its chains stay as they are until the kernel has no packet for them.
      this.#stored.delete(key);
      this.#placeUnlessCollecting();
      return;
    }
    // Staged policies are not compiled.
    if (!isStaged(policy.id)) this.#store(key, policy);
    this.#selected.setPolicy(key, policy);
    this.#placeUnlessCollecting();
  }

  /** An endpoint of any host as it is now; `undefined`: it is gone. */
  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    this.setRemote(id, endpoint && briefEndpoint(endpoint));
    const local = endpoint?.spec.node === this.#node ? endpoint : undefined;
    if (local === undefined && !this.#placements.has(id)) return;
    if (local === undefined) this.#selected.removeEndpoint(id);
    else this.#selected.setEndpoint(id, briefEndpoint(local));
    this.#placements.set(id, local);
    this.#placeUnlessCollecting();
  }

  /** Sets a host endpoint of any host; `undefined`: it is gone. Its addresses are those that it expects. */
  setHostEndpoint(id: string, endpoint: HostEndpoint | undefined): void {
    const key = `${hostPrefix}${id}`;
    const item = endpoint && hostItem(endpoint);
    this.#selectorSets.setMember(key, item);
    this.#namedPorts.setEndpoint(key, item);
    const isLocal = item !== undefined && endpoint?.spec.node === this.#node;
    if (!isLocal && !this.#hosts.has(id)) return;
    if (isLocal) this.#selected.setEndpoint(key, item);
    else this.#selected.removeEndpoint(key);
    this.#hosts.set(id, isLocal ? item.profiles : undefined);
    this.#hosts.place();
  }

  /** Sets which host endpoint each interface of this host has; `*` stands for all others. */
  setCoveredInterfaces(covered: ReadonlyMap<string, string>): void {
    this.#hosts.cover(covered);
    this.#hosts.place();
  }

  setFailsafes(failsafes: Failsafes): void {
    this.#hosts.setFailsafes(failsafes);
  }

  /** Returns the host endpoints of this host. */
  hostEndpoints(): readonly string[] {
    return this.#hosts.ids();
  }

  /** Returns the tiers of a host endpoint of this host, Profiles excepted. */
  hostTiersOf(id: string): HostTiers {
    return this.#selected.hostTiersOf(`${hostPrefix}${id}`);
  }

  /** Returns the staged policies that select containers or host endpoints of this host. */
  stagedHere(): readonly PolicyId[] {
    return this.#selected.stagedHere();
  }

  /** An endpoint of another host as it is now; `undefined`: it is gone. */
  setRemote(id: string, endpoint: BriefEndpoint | undefined): void {
    this.#selectorSets.setMember(id, endpoint && memberOf(endpoint));
    this.#namedPorts.setEndpoint(id, endpoint);
  }

  /** What leads to an endpoint's policy; `undefined` while it has no place here. */
  dispatchesOf(endpoint: WorkloadEndpoint): readonly Dispatch[] | undefined {
    this.#place();
    return this.#placements.dispatchesOf(endpoint);
  }

  /** Returns the stack of a local endpoint, staged policies included; without a place here that of its Profiles alone. */
  stackOf(endpoint: WorkloadEndpoint): Stack {
    this.#place();
    return this.#placements.stackOf(endpoint) ?? stackOf([], endpoint.spec.profiles ?? []);
  }

  /**
   * Sets the kernel sets that are out of sync, by name: policies that would allow more because of them deny
   * everything. Returns whether a policy has changed.
   */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    const changed = [...this.#stacks.values()].map(({ policies }) => policies.setFaults(faults));
    return changed.includes(true);
  }

  /** Sets a NetworkSet or GlobalNetworkSet, by kind and id; `undefined`: it was deleted. */
  setNetworkSet(id: string, set: NetworkSet | undefined): void {
    this.#selectorSets.setMember(id, set && networkSetMember(set));
  }

  /**
   * Sets the addresses of the domain names of a NetworkSet or GlobalNetworkSet, by kind and id; `undefined`: it has no
   * domain names. They count for the destinations of outbound Allow rules only.
   */
  setDomains(id: string, domains: SetDomains | undefined): void {
    const key = domainsKey(id);
    if (domains === undefined) this.#withDomains.delete(id);
    else this.#withDomains.add(id);
    this.#selectorSets.setMember(key, domains && domainsMember(domains));
    const hasDomains = this.#withDomains.size > 0;
    for (const { policies } of this.#stacks.values()) policies.setHasDomains(hasDomains);
  }

  /**
   * Call before chains are written. Until then packets meet the former state, then the former stack of their endpoint,
   * and after `moveEndpoints` the present one. A policy whose rules changed, and which a former stack contains, would
   * be a mixture there: it denies everything meanwhile.
   */
  beforeTables(): void {
    this.#hosts.beforeTables();
    for (const key of this.#changed) this.#changing.add(key);
    this.#changed.clear();
    for (const { tiers } of this.#placements.beforeTables()) {
      for (const policy of tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress])) {
        const key = policyKey(policy);
        if (this.#changing.has(key)) this.#held.add(key);
      }
    }
    for (const key of this.#held) this.#hold(key, true);
  }

  /** Call before sets are written: later changes are for the next round. */
  beforeRound(): void {
    this.#place();
    this.#hosts.beforeRound();
  }

  /** Call when the chains are written; reports whether rules of host endpoints must still be written. */
  afterTables(): boolean {
    return this.#hosts.afterTables();
  }

  /** Call when the chains are written: new and moved endpoints get their members in sets. */
  moveEndpoints(): void {
    this.#changing.clear();
    this.#placements.move();
  }

  /** Call when the sets are written; returns whether policies that were held have to be written. */
  releaseHeld(): boolean {
    const hasHeld = this.#held.size > 0;
    for (const key of this.#held) this.#hold(key, false);
    this.#held.clear();
    return hasHeld;
  }

  #hold(key: string, isHeld: boolean): void {
    for (const { policies } of this.#stacks.values()) policies.hold(key, isHeld);
  }

  /** Removes stacks and policies that no endpoint uses. */
  dropIdle(maxMs = Infinity): void {
    this.#place();
    const until = performance.now() + maxMs;
    for (const stacks of this.#stacks.values()) stacks.dropIdle(until);
  }

  /** Reports whether `dropIdle` has something to remove. */
  get hasIdle(): boolean {
    this.#place();
    return [...this.#stacks.values()].some(({ hasIdle }) => hasIdle);
  }

  /** Returns the policies in use that deny everything, by `policyKey`. */
  problems(): ReadonlyMap<string, CompiledPolicy> {
    this.#place();
    const all = [...this.#stacks.values()].flatMap(({ policies }) => policies.problems());
    return new Map(all.map((policy) => [policyKey(policy.id), policy]));
  }

  /** Returns a policy as enforced in a family; without the family everything is denied. */
  compiled(family: IpFamily, id: PolicyId): CompiledPolicy {
    this.#place();
    return this.#stacks.get(family)?.policies.compiled(id) ?? compilePolicy(id, undefined);
  }

  /** Reports whether a selector in use matches an endpoint with the address. */
  selectorContains(selectorId: string, network: Cidr): boolean {
    this.#place();
    return this.#selectorSets.contains(selectorId, network);
  }

  /** Reports whether the addresses of a network set's domain names are members of a selector's set. */
  selectsDomains(selectorId: string, id: string): boolean {
    this.#place();
    return this.#selectorSets.hasMember(selectorId, domainsKey(id));
  }

  /** Reports whether an endpoint has a port of a name in use. */
  hasNamedPort(name: string, address: Cidr, port: NumberedPort): boolean {
    this.#place();
    return this.#namedPorts.contains(name, address, port);
  }

  #store(key: string, policy: StoredPolicy | undefined): void {
    const before = this.#stored.get(key);
    if (policy === undefined) this.#stored.delete(key);
    else this.#stored.set(key, policy);
    const hasSameRules = isDeepStrictEqual(before?.rules, policy?.rules);
    const hasSameName = isDeepStrictEqual(before?.id, policy?.id);
    if (hasSameRules && hasSameName && before?.stage === policy?.stage) return;
    if (!hasSameRules) this.#changed.add(key);
    for (const { policies } of this.#stacks.values()) policies.changed(key);
  }

  #desiredStack(id: string, endpoint: WorkloadEndpoint): Stack {
    return stackOf(
      hasUnknownLabels(endpoint) ? [] : this.#selected.tiersOf(id),
      endpoint.spec.profiles ?? [],
    );
  }
}

/** Begins the key of a host endpoint, which is none of a container's. */
const hostPrefix = 'host endpoint ';
