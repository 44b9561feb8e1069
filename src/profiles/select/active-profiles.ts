import type { IpFamily } from '../../ip/address.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import { filledSet } from '../../render/iptables/drop-reasons.ts';
import { profileChain } from '../../render/iptables/names.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import type { PolicyOutput, WorkCount } from '../output.ts';
import {
  compileProfile,
  denyAll,
  renderProfile,
  selectorsOf,
  type CompiledProfile,
  type DropMeaning,
} from '../compile/profile-chains.ts';
import type { SelectorSets } from './selector-sets.ts';
import { openingFault } from '../compile/set-faults.ts';

interface ActiveProfile {
  uses: number;
  compiled: CompiledProfile;
  /** Why it denies everything although it could be enforced. */
  fault: string | undefined;
  /** Ids, each as often as the rules use it. */
  selectors: readonly string[];
  drops: readonly DropMeaning[];
}

/** The chains of those Profiles that an endpoint of this host names; others cost nothing here. */
export class ActiveProfiles {
  readonly #families: readonly IpFamily[];
  readonly #output: PolicyOutput;
  readonly #selectorSets: SelectorSets;
  readonly #work: WorkCount;
  readonly #profiles = new Map<string, Profile>();
  readonly #active = new Map<string, ActiveProfile>();
  #faults: ReadonlyMap<string, SetFault> = new Map();

  constructor(options: {
    readonly families: readonly IpFamily[];
    readonly output: PolicyOutput;
    readonly selectorSets: SelectorSets;
    readonly work: WorkCount;
  }) {
    this.#families = options.families;
    this.#output = options.output;
    this.#selectorSets = options.selectorSets;
    this.#work = options.work;
  }

  /** A Profile as it is now; `undefined`: it is gone. */
  set(name: string, profile: Profile | undefined): void {
    if (profile === undefined) this.#profiles.delete(name);
    else this.#profiles.set(name, profile);
    const active = this.#active.get(name);
    if (active !== undefined) this.#recompile(name, active);
  }

  /** From now on the Profile's chains are wanted, until it is released as often. */
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
      drops: [],
    };
    this.#active.set(name, made);
    this.#recompile(name, made);
  }

  /** What the kernel has not as wanted of sets, by name; answers whether chains have changed. */
  setFaults(faults: ReadonlyMap<string, SetFault>): boolean {
    if (faults.size + this.#faults.size === 0) return false;
    this.#faults = faults;
    let hasChanged = false;
    for (const [name, active] of this.#active) {
      const compiled = compileProfile(name, this.#profiles.get(name));
      if (this.#faultOf(compiled) === active.fault) continue;
      this.#recompile(name, active);
      hasChanged = true;
    }
    return hasChanged;
  }

  release(name: string): void {
    const active = this.#active.get(name);
    if (active === undefined) return;
    active.uses--;
    if (active.uses > 0) return;
    this.#active.delete(name);
    for (const family of this.#families) {
      for (const direction of ['ingress', 'egress'] as const) {
        this.#output.removeChain(family, profileChain(direction, name));
      }
    }
    for (const { set } of active.drops) this.#output.unwantSet(set);
    for (const id of active.selectors) this.#selectorSets.release(id);
  }

  /** Why Profiles in use deny everything, by name. */
  problems(): ReadonlyMap<string, string> {
    return new Map(
      [...this.#active].flatMap(([name, { compiled }]) =>
        compiled.problem === undefined ? [] : [[name, compiled.problem] as const],
      ),
    );
  }

  /** What each counting set of a rule counts. */
  dropMeanings(): readonly DropMeaning[] {
    return [...this.#active.values()].flatMap(({ drops }) => drops);
  }

  /** A Profile as it is enforced. */
  compiled(name: string): CompiledProfile {
    return this.#active.get(name)?.compiled ?? compileProfile(name, this.#profiles.get(name));
  }

  #recompile(name: string, active: ActiveProfile): void {
    const before = { ...active };
    const compiled = compileProfile(name, this.#profiles.get(name));
    active.fault = this.#faultOf(compiled);
    active.compiled =
      active.fault === undefined ? compiled : denyAll(name, `Profile ${name}: ${active.fault}`);
    // The sets stay wanted, so that they can be mended.
    active.selectors = selectorsOf(compiled).map((one) => this.#selectorSets.use(one));
    const rendered = this.#families.map((family) => ({
      family,
      ...renderProfile(active.compiled, family),
    }));
    active.drops = rendered.flatMap(({ drops }) => drops);
    for (const { set, family } of active.drops) {
      this.#output.wantSet(filledSet(set, family));
    }
    for (const { family, chains } of rendered) {
      for (const chain of chains) {
        this.#work.chainsEmitted++;
        this.#output.setChain(family, chain);
      }
    }
    for (const { set } of before.drops) {
      if (!active.drops.some((drop) => drop.set === set)) this.#output.unwantSet(set);
    }
    for (const id of before.selectors) this.#selectorSets.release(id);
  }

  #faultOf(compiled: CompiledProfile): string | undefined {
    for (const family of this.#families) {
      const fault = openingFault(compiled, family, this.#faults);
      if (fault !== undefined) return fault;
    }
    return undefined;
  }
}
