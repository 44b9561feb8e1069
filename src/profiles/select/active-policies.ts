import type { IpFamily } from '../../ip/address.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import {
  compilePolicy,
  denyAll,
  namedPortsOf,
  policyTitle,
  selectorsOf,
  type CompiledPolicy,
  type PolicyRules,
} from '../compile/compiled-policy.ts';
import { failOpenRisk } from '../compile/fail-open.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';
import {
  policyKey,
  resourceKey,
  type HostStage,
  type NamedPort,
  type PolicyId,
} from '../../ruleset/policy.ts';
import type { NamedPorts } from './named-ports.ts';
import type { SelectorSets } from './selector-sets.ts';

interface ActivePolicy {
  id: PolicyId;
  uses: number;
  compiled: CompiledPolicy;
  /** Why it denies everything although it could be enforced. */
  fault: string | undefined;
  /** Whether it denies everything until endpoints have left their former stacks. */
  isHeld: boolean;
  /** Ids, each as often as the rules use it. */
  selectors: readonly string[];
  /** Likewise. */
  namedPorts: readonly NamedPort[];
}

/** A stored policy. */
export interface StoredPolicy {
  readonly id: PolicyId;
  readonly rules: PolicyRules;
  /** Absent for Profiles, which containers and host endpoints use. */
  readonly stage?: HostStage;
}

/** What policies of one family need. */
export interface ActivePoliciesOptions {
  readonly family: IpFamily;
  readonly output: PolicyOutput;
  readonly selectorSets: SelectorSets;
  readonly namedPorts: NamedPorts;
  readonly work: WorkCount;
  /** By `resourceKey`. */
  readonly stored: ReadonlyMap<string, StoredPolicy>;
}

/** The Profiles and policies used by endpoints of this host, in one family; others cost nothing here. */
export class ActivePolicies {
  readonly #family: IpFamily;
  readonly #output: PolicyOutput;
  readonly #selectorSets: SelectorSets;
  readonly #namedPorts: NamedPorts;
  readonly #work: WorkCount;
  readonly #stored: ReadonlyMap<string, StoredPolicy>;
  /** By `policyKey`. */
  readonly #active = new Map<string, ActivePolicy>();
  #faults: ReadonlyMap<string, SetFault> = new Map();
  #hasDomains = false;

  constructor(options: ActivePoliciesOptions) {
    this.#family = options.family;
    this.#output = options.output;
    this.#selectorSets = options.selectorSets;
    this.#namedPorts = options.namedPorts;
    this.#work = options.work;
    this.#stored = options.stored;
  }

  /**
   * A stored policy has changed. At a stage that it has left, its chains stay as they are until the kernel has no packet
   * for them.
   */
  changed(resource: string): void {
    for (const stage of ['', ' host', ' preDnat', ' untracked']) {
      const active = this.#active.get(`${resource}${stage}`);
      if (active !== undefined && this.#isAtStage(active.id)) this.#recompile(active);
    }
  }

  /** Makes a policy of containers deny everything, or as it should be again. */
  hold(key: string, isHeld: boolean): void {
    const active = this.#active.get(key);
    if (active === undefined || active.isHeld === isHeld) return;
    active.isHeld = isHeld;
    this.#emit(active);
  }

  /** As `use`, in steps: a step is one selector that no other policy uses. */
  *useInSteps(id: PolicyId): Generator<undefined> {
    if (this.#active.has(policyKey(id))) {
      this.use(id);
      return;
    }
    const stored = this.#stored.get(resourceKey(id));
    const hasDomains = this.#hasDomains;
    const compiled = this.#compile(id);
    const selectors: string[] = [];
    try {
      for (const selector of selectorsOf(compiled)) {
        const isNew = !this.#selectorSets.isUsed(selector.id);
        selectors.push(this.#selectorSets.use(selector));
        if (isNew) yield;
      }
      const isSame =
        this.#stored.get(resourceKey(id)) === stored && this.#hasDomains === hasDomains;
      this.use(id, isSame ? compiled : undefined);
    } finally {
      for (const selector of selectors) this.#selectorSets.release(selector);
    }
  }

  /** Adds a use of the policy, until it is released as often; `compiled`: if that is known. */
  use(id: PolicyId, compiled?: CompiledPolicy): void {
    const key = policyKey(id);
    const active = this.#active.get(key);
    if (active !== undefined) {
      active.uses++;
      return;
    }
    const made: ActivePolicy = {
      id,
      uses: 1,
      compiled: compilePolicy(id, undefined),
      fault: undefined,
      isHeld: false,
      selectors: [],
      namedPorts: [],
    };
    this.#active.set(key, made);
    this.#recompile(made, compiled);
  }

  release(id: PolicyId): void {
    const key = policyKey(id);
    const active = this.#active.get(key);
    if (active === undefined) return;
    active.uses--;
    if (active.uses > 0) return;
    this.#active.delete(key);
    this.#output.removePolicy(this.#family, id);
    for (const selector of active.selectors) this.#selectorSets.release(selector);
    for (const port of active.namedPorts) this.#namedPorts.release(port);
  }

  /** Sets the kernel sets that are out of sync, by name; returns whether a policy has changed. */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    if (faults.size + this.#faults.size === 0) return false;
    this.#faults = faults;
    let hasChanged = false;
    for (const active of this.#active.values()) {
      if (!this.#isAtStage(active.id)) continue;
      const compiled = this.#compile(active.id);
      if (failOpenRisk(compiled, this.#family, faults) === active.fault) continue;
      this.#recompile(active);
      hasChanged = true;
    }
    return hasChanged;
  }

  /**
   * Sets whether network sets have domain names. Without, rules in which they would count share the sets of the others.
   */
  setHasDomains(hasDomains: boolean): void {
    if (this.#hasDomains === hasDomains) return;
    this.#hasDomains = hasDomains;
    for (const active of this.#active.values()) {
      if (!this.#isAtStage(active.id)) continue;
      const compiled = this.#compile(active.id);
      const ids = selectorsOf(compiled).map(({ id }) => id);
      if (ids.join(' ') !== active.selectors.join(' ')) this.#recompile(active, compiled);
    }
  }

  /** Returns the policies in use that deny everything. */
  problems(): readonly CompiledPolicy[] {
    return [...this.#active.values()].flatMap(({ compiled }) =>
      compiled.problem === undefined ? [] : [compiled],
    );
  }

  /** Returns a policy as enforced. */
  compiled(id: PolicyId): CompiledPolicy {
    return this.#active.get(policyKey(id))?.compiled ?? this.#compile(id);
  }

  /** Compiles a policy under its present name, which contains its tier. */
  #compile(id: PolicyId): CompiledPolicy {
    const stored = this.#stored.get(resourceKey(id));
    const { stage } = id;
    const now = { ...(stored?.id ?? id), ...(stage === undefined ? {} : { stage }) };
    return compilePolicy(now, stored?.rules, this.#hasDomains);
  }

  #isAtStage({ stage = 'host', ...id }: PolicyId): boolean {
    return (this.#stored.get(resourceKey(id))?.stage ?? stage) === stage;
  }

  #recompile(active: ActivePolicy, compiled = this.#compile(active.id)): void {
    const { selectors, namedPorts } = active;
    const { id } = compiled;
    active.id = id;
    active.fault = failOpenRisk(compiled, this.#family, this.#faults);
    active.compiled =
      active.fault === undefined ? compiled : denyAll(id, `${policyTitle(id)}: ${active.fault}`);
    // The sets stay desired, so that they can be repaired.
    active.selectors = selectorsOf(compiled).map((one) => this.#selectorSets.use(one));
    active.namedPorts = namedPortsOf(compiled);
    for (const port of active.namedPorts) this.#namedPorts.use(port);
    this.#emit(active);
    for (const selector of selectors) this.#selectorSets.release(selector);
    for (const port of namedPorts) this.#namedPorts.release(port);
  }

  #emit({ id, compiled, isHeld }: ActivePolicy): void {
    this.#work.policiesEmitted++;
    const policy = isHeld ? denyAll(id, `${policyTitle(id)} is being replaced`) : compiled;
    this.#output.setPolicy(this.#family, policy);
  }
}
