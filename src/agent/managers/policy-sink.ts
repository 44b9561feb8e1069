import type { AddressSets } from '../../dataplane/address-sets.ts';
import type { IptablesTables } from '../../dataplane/iptables/tables.ts';
import type { IpFamily } from '../../ip/address.ts';
import type { PolicyOutput } from '../../profiles/output.ts';
import { staticRules, type StaticOptions } from '../../profiles/static-chains.ts';

/** Hands what policy wants to the kernel drivers: chains to the filter tables, sets to the address sets. */
export function createPolicySink(
  tables: ReadonlyMap<IpFamily, IptablesTables>,
  sets: AddressSets,
): PolicyOutput {
  return {
    setChain: (family, chain) => tables.get(family)?.setChain('filter', chain),
    removeChain: (family, name) => tables.get(family)?.removeChain('filter', name),
    wantSet: (spec) => sets.want(spec),
    unwantSet: (name) => sets.unwant(name),
    addMember: (set, member) => sets.addMember(set, member),
    removeMember: (set, member) => sets.removeMember(set, member),
  };
}

/** Hands over the chains and hooks that no policy changes. */
export function wantStaticRules(
  byFamily: ReadonlyMap<IpFamily, IptablesTables>,
  options: StaticOptions,
): void {
  for (const [family, tables] of byFamily) {
    for (const { table, chains, hooks } of staticRules(family, options)) {
      for (const chain of chains) tables.setChain(table, chain);
      for (const hook of hooks) tables.setHook(table, hook);
    }
  }
}
