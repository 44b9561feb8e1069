import type { IpFamily } from '../../ip/address.ts';
import { enforcedStack, policyKey, type PolicyId, type Stack } from '../../ruleset/policy.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';
import { ActivePolicies, type ActivePoliciesOptions } from './active-policies.ts';

interface ActiveStack {
  readonly policies: readonly PolicyId[];
  readonly endpoints: Set<string>;
}

/**
 * The stacks of one IP family that endpoints of this host have, with their policies. Endpoints with the same
 * tiers have one stack. A stack that has no address in the family costs nothing in it; its packets are
 * those of an unknown interface. Stacks without endpoints stay until `dropIdle`.
 */
export class ActiveStacks {
  readonly policies: ActivePolicies;
  readonly #family: IpFamily;
  readonly #output: PolicyOutput;
  readonly #work: WorkCount;
  readonly #stacks = new Map<string, ActiveStack>();
  readonly #idle = new Set<string>();

  constructor(options: ActivePoliciesOptions) {
    this.#family = options.family;
    this.#output = options.output;
    this.#work = options.work;
    this.policies = new ActivePolicies(options);
  }

  /** Creates the stack, if it does not exist, in steps: a step is one policy of it, or one selector. */
  *prepare(withStaged: Stack): Generator<undefined> {
    if (this.#stacks.has(withStaged.name)) return;
    const stack = enforcedStack(withStaged);
    const policies = policiesOf(stack);
    let used: PolicyId[] = [];
    try {
      for (const policy of policies) {
        yield* this.policies.useInSteps(policy);
        used.push(policy);
        yield;
      }
      if (this.#stacks.has(stack.name)) return;
      this.#make(stack, policies);
      this.#idle.add(stack.name);
      used = [];
    } finally {
      for (const policy of used) this.policies.release(policy);
    }
  }

  /** Assigns the stack to the endpoint; creates it if it does not exist. */
  enter(withStaged: Stack, endpoint: string): void {
    const { name } = withStaged;
    if (!this.#stacks.has(name)) {
      const stack = enforcedStack(withStaged);
      const policies = policiesOf(stack);
      for (const policy of policies) this.policies.use(policy);
      this.#make(stack, policies);
    }
    this.#stacks.get(name)?.endpoints.add(endpoint);
    this.#idle.delete(name);
  }

  leave(name: string, endpoint: string): void {
    const endpoints = this.#stacks.get(name)?.endpoints;
    endpoints?.delete(endpoint);
    if (endpoints?.size === 0) this.#idle.add(name);
  }

  /** Reports whether `dropIdle` has something to remove. */
  get hasIdle(): boolean {
    return this.#idle.size > 0;
  }

  /** Removes the stacks that no endpoint uses; the rest stays when it is too late, by `performance.now`. */
  dropIdle(until = Infinity): void {
    for (const name of this.#idle) {
      if (performance.now() >= until) return;
      this.#drop(name);
      this.#idle.delete(name);
    }
  }

  /** The policies are in use. */
  #make(stack: Stack, policies: readonly PolicyId[]): void {
    this.#stacks.set(stack.name, { policies, endpoints: new Set<string>() });
    this.#work.policiesEmitted++;
    this.#output.setStack(this.#family, stack);
  }

  #drop(name: string): void {
    const stack = this.#stacks.get(name);
    if (stack === undefined || stack.endpoints.size > 0) return;
    this.#stacks.delete(name);
    this.#output.removeStack(this.#family, name);
    for (const policy of stack.policies) this.policies.release(policy);
  }
}

/** Returns the policies of a stack, each once. */
function policiesOf({ tiers }: Stack): readonly PolicyId[] {
  const all = tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]);
  return [...new Map(all.map((id) => [policyKey(id), id])).values()];
}
