import type { BriefChange, EntryChange } from '../../cache/mirror.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import type { SelectingResource } from '../../profiles/compile/policy-source.ts';
import type { GuardedStages } from '../../ruleset/host-endpoint.ts';
import { PolicyEngine } from '../../profiles/policy-engine.ts';
import {
  enforcedKinds,
  stagedKinds,
  type EnforcedKind,
  type StagedKind,
} from '../../ruleset/policy.ts';
import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** How long unused policy chains are kept for a container that comes back. */
const idleMs = 60_000;
/** How long the removal of unused chains may occupy the event loop at once. */
const longestDropMs = 10;

/** The kinds that decide what packets of this host's endpoints may pass. */
export const policyKinds = [
  'Profile',
  'Tier',
  ...enforcedKinds,
  'NetworkSet',
  'GlobalNetworkSet',
  'WorkloadEndpoint',
] as const;

export type PolicyKind = (typeof policyKinds)[number];

type PolicyMirror = Pick<ManagerDeps['mirror'], 'get' | 'unreadable' | 'allUnreadable'>;

interface PolicyDeps extends Pick<ManagerDeps, 'node' | 'families' | 'kernel'> {
  readonly mirror: PolicyMirror;
  readonly hostRules: Pick<HostRuleSettings, 'change'>;
}

type ManagedKind = PolicyKind | StagedKind;

/** The chains and sets of policies and Profiles for the endpoints of this host. */
export class Policy implements Manager<ManagedKind> {
  readonly name = 'policy';
  readonly kinds = [...policyKinds, ...stagedKinds];
  readonly engine: PolicyEngine;
  readonly #kernel: ManagerDeps['kernel'];
  readonly #mirror: PolicyMirror;
  /** The revisions of policies that cannot be read, by id. */
  readonly #unreadable = {
    NetworkPolicy: new Map<string, bigint>(),
    GlobalNetworkPolicy: new Map<string, bigint>(),
  };
  /** Which rules host endpoints of this host need. */
  guardedStages: GuardedStages | undefined;
  #idleAt = Date.now();
  #mustWrite = false;
  #mustWriteHosts = false;

  constructor({ node, families, kernel, mirror, hostRules }: PolicyDeps) {
    this.#kernel = kernel;
    this.#mirror = mirror;
    this.engine = new PolicyEngine({
      node,
      families,
      output: kernel.rules.policies,
      onGuardedStages: (hostEndpoints) => {
        this.guardedStages = hostEndpoints;
        for (const family of families) hostRules.change(family, { hostEndpoints });
      },
    });
  }

  onChange(change: EntryChange<ManagedKind>): void {
    const { kind, id } = change;
    this.engine.collect();
    switch (kind) {
      case 'Profile':
        return this.engine.setProfile(id, change.now?.value);
      case 'Tier':
        return this.engine.setTier(id, change.now?.value);
      case 'NetworkPolicy':
      case 'GlobalNetworkPolicy':
        return this.#setPolicy(kind, id, change.now?.value);
      case 'StagedNetworkPolicy':
      case 'StagedGlobalNetworkPolicy':
        return this.engine.setPolicy(kind, id, change.now?.value);
      case 'WorkloadEndpoint':
        return this.engine.setEndpoint(id, change.now?.value);
      default:
        return this.engine.setNetworkSet(`${kind} ${id}`, change.now?.value);
    }
  }

  /** A policy that cannot be read any more is no deleted one. */
  #setPolicy(kind: EnforcedKind, id: string, value: SelectingResource | undefined): void {
    const unreadable = value === undefined ? this.#mirror.unreadable(kind, id) : undefined;
    if (unreadable === undefined) this.engine.setPolicy(kind, id, value);
    else this.engine.setUnreadablePolicy(kind, id, unreadable);
  }

  /** Policies that cannot be read are not reported as changes. */
  #comparePolicies(): void {
    for (const kind of enforcedKinds) {
      const known = this.#unreadable[kind];
      const now = this.#mirror.allUnreadable(kind);
      if (known.size + now.size === 0) continue;
      for (const [id, unreadable] of now) {
        if (known.get(id) === unreadable.modRevision) continue;
        known.set(id, unreadable.modRevision);
        this.engine.setUnreadablePolicy(kind, id, unreadable);
      }
      for (const id of known.keys()) {
        if (now.has(id)) continue;
        known.delete(id);
        this.#setPolicy(kind, id, this.#mirror.get(kind, id)?.value);
      }
    }
  }

  /** The endpoints of other hosts are members of what selectors name. */
  onBrief(change: BriefChange): void {
    if (change.kind === 'WorkloadEndpoint') this.engine.setRemote(change.id, change.brief);
  }

  prepare(): Promise<void> | undefined {
    return this.engine.settle();
  }

  /** A policy that would allow more because a set is out of sync denies everything meanwhile. */
  apply(phase: Phase): void {
    if (phase === 'reading') {
      this.#comparePolicies();
      this.engine.beforeRound();
    }
    const { sets } = this.#kernel;
    if (phase === 'additions') {
      if (this.engine.setFaults(sets.faults())) sets.applyAdditions();
      this.engine.beforeTables();
    }
    if (phase === 'tables') {
      this.#mustWriteHosts = this.engine.afterTables();
      sets.applyAlone(() => this.engine.moveEndpoints());
    }
    // The next round writes what was held in this one.
    if (phase === 'removals') this.#mustWrite = this.engine.releaseHeld() || this.#mustWriteHosts;
  }

  /** Reports whether another round must follow. */
  get isUnfinished(): boolean {
    return this.#mustWrite;
  }

  poll(): boolean {
    if (Date.now() - this.#idleAt <= idleMs || !this.engine.hasIdle) return false;
    this.engine.dropIdle(longestDropMs);
    // Otherwise the next poll continues.
    if (!this.engine.hasIdle) this.#idleAt = Date.now();
    return true;
  }

  /** Reports whether the policy of a local endpoint is programmed. */
  isPlaced(endpoint: WorkloadEndpoint): boolean {
    const { rules } = this.#kernel;
    return (
      this.engine.dispatchesOf(endpoint)?.every((dispatch) => rules.isDispatched(dispatch)) ?? false
    );
  }
}
