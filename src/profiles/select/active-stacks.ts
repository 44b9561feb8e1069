import type { IpFamily } from '../../ip/address.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';
import { ActiveProfiles } from './active-profiles.ts';
import type { NamedPorts } from './named-ports.ts';
import type { SelectorSets } from './selector-sets.ts';

interface ActiveStack {
  readonly profiles: readonly string[];
  readonly endpoints: Set<string>;
}

/** The name of the stack of an endpoint: its Profiles in order; empty for endpoints in quarantine. */
export function stackName(profiles: readonly string[]): string {
  return profiles.join(',');
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

  /** The endpoint has the stack, which is made if it is not there. */
  enter(name: string, profiles: readonly string[], endpoint: string): void {
    const stack = this.#stacks.get(name) ?? this.#make(name, profiles);
    stack.endpoints.add(endpoint);
    this.#idle.delete(name);
  }

  leave(name: string, endpoint: string): void {
    const endpoints = this.#stacks.get(name)?.endpoints;
    endpoints?.delete(endpoint);
    if (endpoints?.size === 0) this.#idle.add(name);
  }

  /** Whether there is something for `dropIdle`. */
  get hasIdle(): boolean {
    return this.#idle.size > 0;
  }

  /** Drops the stacks that no endpoint has. */
  dropIdle(): void {
    for (const name of this.#idle) this.#drop(name);
    this.#idle.clear();
  }

  #make(name: string, profiles: readonly string[]): ActiveStack {
    const stack = { profiles, endpoints: new Set<string>() };
    this.#stacks.set(name, stack);
    for (const profile of profiles) this.profiles.use(profile);
    this.#work.policiesEmitted++;
    this.#output.setStack(this.#family, { name, policies: profiles });
    return stack;
  }

  #drop(name: string): void {
    const stack = this.#stacks.get(name);
    if (stack === undefined || stack.endpoints.size > 0) return;
    this.#stacks.delete(name);
    this.#output.removeStack(this.#family, name);
    for (const profile of stack.profiles) this.profiles.release(profile);
  }
}
