import type { IpFamily } from '../../ip/address.ts';
import type { Stack } from '../../ruleset/policy.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';
import { ActiveProfiles } from './active-profiles.ts';
import type { NamedPorts } from './named-ports.ts';
import type { SelectorSets } from './selector-sets.ts';

interface ActiveStack {
  readonly policies: readonly string[];
  readonly endpoints: Set<string>;
}

/**
 * The stacks of one IP family that endpoints of this host have, with their policies. Endpoints with the same Profiles
 * in the same order have one stack. A stack that has no address in the family costs nothing in it; its packets are
 * those of an unknown interface. Stacks without endpoints stay until `dropIdle`.
 */
export class ActiveStacks {
  readonly profiles: ActiveProfiles;
  readonly #family: IpFamily;
  readonly #output: PolicyOutput;
  readonly #work: WorkCount;
  readonly #stacks = new Map<string, ActiveStack>();
  readonly #idle = new Set<string>();

  constructor(options: {
    readonly family: IpFamily;
    readonly output: PolicyOutput;
    readonly selectorSets: SelectorSets;
    readonly namedPorts: NamedPorts;
    readonly work: WorkCount;
  }) {
    this.#family = options.family;
    this.#output = options.output;
    this.#work = options.work;
    this.profiles = new ActiveProfiles(options);
  }

  /** Assigns the stack to the endpoint; creates it if it does not exist. */
  enter(stack: Stack, endpoint: string): void {
    const active = this.#stacks.get(stack.name) ?? this.#make(stack);
    active.endpoints.add(endpoint);
    this.#idle.delete(stack.name);
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

  /** Removes the stacks that no endpoint uses. */
  dropIdle(): void {
    for (const name of this.#idle) this.#drop(name);
    this.#idle.clear();
  }

  #make(stack: Stack): ActiveStack {
    const { name, policies } = stack;
    const active = { policies, endpoints: new Set<string>() };
    this.#stacks.set(name, active);
    for (const policy of policies) this.profiles.use(policy);
    this.#work.policiesEmitted++;
    this.#output.setStack(this.#family, stack);
    return active;
  }

  #drop(name: string): void {
    const stack = this.#stacks.get(name);
    if (stack === undefined || stack.endpoints.size > 0) return;
    this.#stacks.delete(name);
    this.#output.removeStack(this.#family, name);
    for (const policy of stack.policies) this.profiles.release(policy);
  }
}
