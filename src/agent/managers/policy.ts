import type { BriefChange, EntryChange } from '../../cache/mirror.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { PolicyEngine } from '../../profiles/policy-engine.ts';
import type { Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** How long unused policy chains are kept for a container that comes back. */
const idleMs = 60_000;

type PolicyKind = 'Profile' | 'NetworkSet' | 'GlobalNetworkSet' | 'WorkloadEndpoint';

/** The chains and sets of Profiles for the endpoints of this host. */
export class Policy implements Manager<PolicyKind> {
  readonly name = 'policy';
  readonly kinds = ['Profile', 'NetworkSet', 'GlobalNetworkSet', 'WorkloadEndpoint'] as const;
  readonly engine: PolicyEngine;
  readonly #kernel: ManagerDeps['kernel'];
  #idleAt = Date.now();

  constructor({ node, families, kernel }: Pick<ManagerDeps, 'node' | 'families' | 'kernel'>) {
    this.#kernel = kernel;
    this.engine = new PolicyEngine({ node, families, output: kernel.rules.policies });
  }

  onChange(change: EntryChange<PolicyKind>): void {
    const { kind, id } = change;
    if (kind === 'Profile') this.engine.setProfile(id, change.now?.value);
    else if (kind === 'WorkloadEndpoint') this.engine.setEndpoint(id, change.now?.value);
    else this.engine.setNetworkSet(`${kind} ${id}`, change.now?.value);
  }

  /** The endpoints of other hosts are members of what selectors name. */
  onBrief(change: BriefChange): void {
    if (change.kind === 'WorkloadEndpoint') this.engine.setRemote(change.id, change.brief);
  }

  /** A Profile that would let more pass because of a set that is not as wanted denies everything meanwhile. */
  apply(phase: Phase): void {
    const { sets } = this.#kernel;
    if (phase === 'additions' && this.engine.setFaults(sets.faults())) sets.applyAdditions();
  }

  poll(): boolean {
    if (Date.now() - this.#idleAt <= idleMs || !this.engine.hasIdle) return false;
    this.#idleAt = Date.now();
    this.engine.dropIdle();
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
