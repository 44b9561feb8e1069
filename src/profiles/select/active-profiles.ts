import type { IpFamily } from '../../ip/address.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import {
  compileProfile,
  denyAll,
  namedPortsOf,
  selectorsOf,
  type CompiledProfile,
} from '../compile/compiled-profile.ts';
import { failOpenRisk } from '../compile/fail-open.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';
import type { NamedPort } from '../../ruleset/policy.ts';
import type { NamedPorts } from './named-ports.ts';
import type { SelectorSets } from './selector-sets.ts';

interface ActiveProfile {
  uses: number;
  compiled: CompiledProfile;
  /** Why it denies everything although it could be enforced. */
  fault: string | undefined;
  /** Ids, each as often as the rules use it. */
  selectors: readonly string[];
  /** Likewise. */
  namedPorts: readonly NamedPort[];
}

/** The Profiles used by endpoints of this host, in one family; others cost nothing here. */
export class ActiveProfiles {
  readonly #family: IpFamily;
  readonly #output: PolicyOutput;
  readonly #selectorSets: SelectorSets;
  readonly #namedPorts: NamedPorts;
  readonly #work: WorkCount;
  readonly #profiles = new Map<string, Profile>();
  readonly #active = new Map<string, ActiveProfile>();
  #faults: ReadonlyMap<string, SetFault> = new Map();

  constructor(options: {
    readonly family: IpFamily;
    readonly output: PolicyOutput;
    readonly selectorSets: SelectorSets;
    readonly namedPorts: NamedPorts;
    readonly work: WorkCount;
  }) {
    this.#family = options.family;
    this.#output = options.output;
    this.#selectorSets = options.selectorSets;
    this.#namedPorts = options.namedPorts;
    this.#work = options.work;
  }

  /** Sets a Profile; `undefined`: it was deleted. */
  set(name: string, profile: Profile | undefined): void {
    if (profile === undefined) this.#profiles.delete(name);
    else this.#profiles.set(name, profile);
    const active = this.#active.get(name);
    if (active !== undefined) this.#recompile(name, active);
  }

  /** Adds a use of the Profile, until it is released as often. */
  use(name: string): void {
    const active = this.#active.get(name);
    if (active !== undefined) {
      active.uses++;
      return;
    }
    const made: ActiveProfile = {
      uses: 1,
      compiled: compileProfile(name, undefined),
      fault: undefined,
      selectors: [],
      namedPorts: [],
    };
    this.#active.set(name, made);
    this.#recompile(name, made);
  }

  release(name: string): void {
    const active = this.#active.get(name);
    if (active === undefined) return;
    active.uses--;
    if (active.uses > 0) return;
    this.#active.delete(name);
    this.#output.removePolicy(this.#family, name);
    for (const id of active.selectors) this.#selectorSets.release(id);
    for (const port of active.namedPorts) this.#namedPorts.release(port);
  }

  /** Sets the kernel sets that are out of sync, by name; returns whether a policy has changed. */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    if (faults.size + this.#faults.size === 0) return false;
    this.#faults = faults;
    let hasChanged = false;
    for (const [name, active] of this.#active) {
      const compiled = compileProfile(name, this.#profiles.get(name));
      if (failOpenRisk(compiled, this.#family, faults) === active.fault) continue;
      this.#recompile(name, active);
      hasChanged = true;
    }
    return hasChanged;
  }

  /** Returns the Profiles in use that deny everything, with the reason, by name. */
  problems(): ReadonlyMap<string, string> {
    return new Map(
      [...this.#active].flatMap(([name, { compiled }]) =>
        compiled.problem === undefined ? [] : [[name, compiled.problem] as const],
      ),
    );
  }

  /** Returns a Profile as enforced. */
  compiled(name: string): CompiledProfile {
    return this.#active.get(name)?.compiled ?? compileProfile(name, this.#profiles.get(name));
  }

  #recompile(name: string, active: ActiveProfile): void {
    const { selectors, namedPorts } = active;
    const compiled = compileProfile(name, this.#profiles.get(name));
    active.fault = failOpenRisk(compiled, this.#family, this.#faults);
    active.compiled =
      active.fault === undefined ? compiled : denyAll(name, `Profile ${name}: ${active.fault}`);
    // The sets stay desired, so that they can be repaired.
    active.selectors = selectorsOf(compiled).map((one) => this.#selectorSets.use(one));
    active.namedPorts = namedPortsOf(compiled);
    for (const port of active.namedPorts) this.#namedPorts.use(port);
    this.#work.policiesEmitted++;
    this.#output.setPolicy(this.#family, active.compiled);
    for (const id of selectors) this.#selectorSets.release(id);
    for (const port of namedPorts) this.#namedPorts.release(port);
  }
}
