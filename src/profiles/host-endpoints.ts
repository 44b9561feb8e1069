import { isDeepStrictEqual } from 'node:util';
import type { IpFamily } from '../ip/address.ts';
import {
  anyInterface,
  guardedStages,
  type Failsafes,
  type GuardedInterface,
  type GuardedStages,
} from '../ruleset/host-endpoint.ts';
import { policyKey, type PolicyId, type StackTier } from '../ruleset/policy.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import { profilesTier } from './compile/stack.ts';
import type { ActivePolicies } from './select/active-policies.ts';
import type { HostTiers } from './select/selected-policies.ts';

interface HostEndpointsOptions {
  readonly output: Pick<PolicyOutput, 'setHostGuards'>;
  /** The policies in use, by family. */
  readonly policies: ReadonlyMap<IpFamily, ActivePolicies>;
  /** Returns the tiers of the policies that select a host endpoint. */
  readonly tiersOf: (id: string) => HostTiers;
  /** Notified when other rules of the host are needed; `undefined`: there are no host endpoints. */
  readonly onStages: (stages: GuardedStages | undefined) => void;
}

type Guards = ReadonlyMap<string, GuardedInterface>;

/**
 * The host endpoints of this host, as rules for its interfaces. Packets are judged by the former rules or by the present
 * ones. Each table changes in one step, but the tables change one after the other: if rules of an interface change in
 * several tables, all that starts on it is denied until all are written.
 */
export class HostEndpoints {
  readonly #options: HostEndpointsOptions;
  /** The Profiles of each host endpoint of this host. */
  readonly #profiles = new Map<string, readonly string[]>();
  /** The host endpoint of each interface. */
  #covered: ReadonlyMap<string, string> = new Map();
  #failsafes: Failsafes = { inbound: [], outbound: [] };
  #isTouched = false;
  #desired: Guards = new Map();
  #emitted: Guards = new Map();
  /** What is being written, and what has been. */
  #writing: Guards = new Map();
  #written: Guards = new Map();
  #stages: GuardedStages | undefined;
  #uses: readonly PolicyId[] = [];

  constructor(options: HostEndpointsOptions) {
    this.#options = options;
  }

  /** Sets a host endpoint of this host; `undefined`: it is gone. */
  set(id: string, profiles: readonly string[] | undefined): void {
    if (profiles === undefined) this.#profiles.delete(id);
    else this.#profiles.set(id, profiles);
    this.#isTouched = true;
  }

  ids(): readonly string[] {
    return [...this.#profiles.keys()].toSorted();
  }

  has(id: string): boolean {
    return this.#profiles.has(id);
  }

  /** The policies that select a host endpoint may have changed. */
  touch(): void {
    this.#isTouched = true;
  }

  /** Sets the host endpoint of each interface, `anyInterface` included. */
  cover(covered: ReadonlyMap<string, string>): void {
    this.#covered = covered;
    this.#isTouched = true;
  }

  setFailsafes(failsafes: Failsafes): void {
    if (isDeepStrictEqual(failsafes, this.#failsafes)) return;
    this.#failsafes = failsafes;
    if (this.#emitted.size > 0) this.#emit(this.#emitted);
  }

  /** Updates the rules, if they may have changed. */
  place(): void {
    if (!this.#isTouched) return;
    this.#isTouched = false;
    this.#desired = this.#guards();
    this.#emitChanges();
  }

  /** Call before sets are written: what was held is replaced. */
  beforeRound(): void {
    this.#emitChanges();
  }

  /** Call before chains are written. */
  beforeTables(): void {
    this.#writing = this.#emitted;
  }

  /** Call when the chains are written; reports whether others must be written. */
  afterTables(): boolean {
    this.#written = this.#writing;
    return !isSame(this.#next(), this.#emitted);
  }

  #guards(): Guards {
    const guards = [...this.#covered].flatMap(([name, id]) => {
      const profiles = this.#profiles.get(id);
      if (profiles === undefined) return [];
      const tiers = this.#options.tiersOf(id);
      const ofProfiles = profiles.length === 0 ? [] : [profilesTier(profiles, 'host')];
      const guard = { ...tiers, interface: name, local: [...tiers.local, ...ofProfiles] };
      return [[name, guard] as const];
    });
    const last = ([name]: readonly [string, unknown]) => Number(name === anyInterface);
    return new Map(guards.toSorted((a, b) => last(a) - last(b) || (a[0] < b[0] ? -1 : 1)));
  }

  #next(): Guards {
    return new Map(
      [...this.#desired].map(([name, guard]) => [name, bridged(this.#written.get(name), guard)]),
    );
  }

  #emitChanges(): void {
    const next = this.#next();
    if (!isSame(next, this.#emitted)) this.#emit(next);
  }

  #emit(guards: Guards): void {
    const { output, policies, onStages } = this.#options;
    const interfaces = [...guards.values()];
    const uses = policiesOf(interfaces);
    for (const ofFamily of policies.values()) for (const id of uses) ofFamily.use(id);
    const all = { interfaces, failsafes: this.#failsafes };
    for (const family of policies.keys()) output.setHostGuards(family, all);
    const stages = guardedStages(all);
    if (!isDeepStrictEqual(stages, this.#stages)) onStages(stages);
    for (const ofFamily of policies.values()) for (const id of this.#uses) ofFamily.release(id);
    this.#stages = stages;
    this.#uses = uses;
    this.#emitted = guards;
  }
}

function isSame(a: Guards, b: Guards): boolean {
  return isDeepStrictEqual([...a], [...b]);
}

/** Returns the rules to write next, given those that are written, so that no packet passes that both deny. */
function bridged(
  written: GuardedInterface | undefined,
  desired: GuardedInterface,
): GuardedInterface {
  if (written === undefined || written.isHeld === true) return desired;
  const differs = (stage: keyof HostTiers) => !isDeepStrictEqual(written[stage], desired[stage]);
  const tables = [['untracked'], ['preDnat'], ['local', 'forwarded']] as const;
  if (tables.filter((stages) => stages.some(differs)).length < 2) return desired;
  const forwarded = [...written.forwarded, ...desired.forwarded];
  return { ...written, forwarded, isHeld: true };
}

/** Returns the policies of interfaces, each once. */
function policiesOf(interfaces: readonly GuardedInterface[]): readonly PolicyId[] {
  const tiers = interfaces.flatMap((one): readonly StackTier[] => [
    ...one.untracked,
    ...one.preDnat,
    ...one.local,
    ...one.forwarded,
  ]);
  const all = tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]);
  return [...new Map(all.map((id) => [policyKey(id), id])).values()];
}
