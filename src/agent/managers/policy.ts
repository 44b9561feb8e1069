import type { EntryChange } from '../../cache/mirror.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { PolicyEngine } from '../../profiles/policy-engine.ts';
import { IptablesPolicies, isDispatched } from '../../render/iptables/policies.ts';
import type { Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** How long chains of policies that no container has any more may stay, as one that comes back finds them. */
const idleMs = 60_000;

type PolicyKind = 'Profile' | 'NetworkSet' | 'GlobalNetworkSet' | 'WorkloadEndpoint';

/** The chains and sets of Profiles, for the endpoints of this host. */
export class Policy implements Manager<PolicyKind> {
  readonly name = 'policy';
  readonly kinds = ['Profile', 'NetworkSet', 'GlobalNetworkSet', 'WorkloadEndpoint'] as const;
  readonly engine: PolicyEngine;
  readonly rendered: IptablesPolicies;
  readonly #kernel: ManagerDeps['kernel'];
  #idleAt = Date.now();

  constructor({ node, families, kernel }: Pick<ManagerDeps, 'node' | 'families' | 'kernel'>) {
    const { sets, tables } = kernel;
    this.#kernel = kernel;
    this.rendered = new IptablesPolicies(families, {
      setChain: (family, chain) => tables.get(family)?.setChain('filter', chain),
      removeChain: (family, name) => tables.get(family)?.removeChain('filter', name),
      wantSet: (spec) => sets.want(spec),
      unwantSet: (name) => sets.unwant(name),
      addMember: (set, member) => sets.addMember(set, member),
      removeMember: (set, member) => sets.removeMember(set, member),
    });
    this.engine = new PolicyEngine({ node, families, output: this.rendered });
  }

  start(): void {
    this.rendered.start();
  }

  onChange(change: EntryChange<PolicyKind>): void {
    const { kind, id } = change;
    if (kind === 'Profile') this.engine.setProfile(id, change.now?.value);
    else if (kind === 'WorkloadEndpoint') this.engine.setEndpoint(id, change.now?.value);
    else this.engine.setNetworkSet(`${kind} ${id}`, change.now?.value);
  }

  /** A Profile that would let more pass because of a set that is not as wanted denies everything meanwhile. */
  apply(phase: Phase): void {
    const { sets } = this.#kernel;
    if (phase === 'additions' && this.engine.setFaults(sets.faults())) sets.applyAdditions();
  }

  look(): boolean {
    if (Date.now() - this.#idleAt <= idleMs || !this.engine.hasIdle) return false;
    this.#idleAt = Date.now();
    this.engine.dropIdle();
    return true;
  }

  /** Whether the kernel knows the policy of an endpoint of this host. */
  isPlaced(endpoint: WorkloadEndpoint): boolean {
    const { sets } = this.#kernel;
    const dispatches = this.engine.dispatchesOf(endpoint);
    return (
      dispatches?.every((one) => isDispatched(one, (set, member) => sets.holds(set, member))) ??
      false
    );
  }
}
