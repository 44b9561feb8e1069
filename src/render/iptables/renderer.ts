import { familyOf, type IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';
import type { GuardedStages } from '../../ruleset/host-endpoint.ts';
import { hooksWithoutDaemon } from '../../ruleset/host-endpoint-hooks.ts';
import type { HostRules } from '../../ruleset/host-rules.ts';
import type { Dispatch } from '../../ruleset/policy.ts';
import type { PublishedPort } from '../../ruleset/published-port.ts';
import type { Renderer } from '../../ruleset/renderer.ts';
import { DropCounts, type CountingSets } from './drop-counts.ts';
import { HostPortChains } from './host-port-chains.ts';
import { renderHostRules, type TableRules } from './host-rules.ts';
import type { IpsetSpec } from './ipset.ts';
import { IptablesPolicies, isDispatched, type ChainOutput } from './policies.ts';
import { connectionMarkBits, type Chain, type Hook, type TableName } from './rule.ts';

/** The tables of a family. */
export interface Tables {
  setChain(table: TableName, chain: Chain): void;
  removeChain(table: TableName, name: string): void;
  setHook(table: TableName, hook: Hook): void;
}

export interface Ipsets extends CountingSets {
  setDesired(spec: IpsetSpec): void;
  deleteDesired(name: string): void;
}

/** Renders the ruleset to iptables (legacy or nft) and ipsets. */
export class IptablesRenderer implements Renderer {
  readonly policies: IptablesPolicies;
  readonly drops: DropCounts;
  readonly #tables: ReadonlyMap<IpFamily, Tables>;
  readonly #sets: Ipsets;
  readonly #denyAction: DenyAction;
  readonly #ports: ReadonlyMap<IpFamily, HostPortChains>;
  /** Hooks and chains of the host's rules, by family. */
  readonly #hostRules = new Map<IpFamily, readonly TableRules[]>();

  /** For the families that have tables. */
  constructor(
    tables: ReadonlyMap<IpFamily, Tables>,
    sets: Ipsets,
    denyAction: DenyAction = 'drop',
  ) {
    const families = [...tables.keys()];
    this.#tables = tables;
    this.#sets = sets;
    this.#denyAction = denyAction;
    const output = {
      setChain: (family, chain, table = 'filter') => tables.get(family)?.setChain(table, chain),
      removeChain: (family, name, table = 'filter') => tables.get(family)?.removeChain(table, name),
      addSet: (spec) => sets.setDesired(spec),
      removeSet: (name) => sets.deleteDesired(name),
      addMember: (set, member) => sets.addMember(set, member),
      removeMember: (set, member) => sets.removeMember(set, member),
    } satisfies ChainOutput;
    this.policies = new IptablesPolicies(families, output, denyAction);
    this.drops = new DropCounts(families, sets, () => this.policies.counters());
    this.#ports = new Map(
      [...tables].map(([family, ofFamily]) => [
        family,
        new HostPortChains({
          setChain: (chain) => ofFamily.setChain('nat', chain),
          removeChain: (name) => ofFamily.removeChain('nat', name),
        }),
      ]),
    );
  }

  start(): void {
    this.policies.start();
    for (const ports of this.#ports.values()) ports.start();
  }

  setHostRules(family: IpFamily, rules: HostRules): void {
    const tables = this.#tables.get(family);
    const before = this.#hostRules.get(family) ?? [];
    const now = renderHostRules(rules, { family, denyAction: this.#denyAction });
    this.#hostRules.set(family, now);
    for (const { table, chains, hooks } of now) {
      for (const chain of chains) tables?.setChain(table, chain);
      for (const hook of hooks) tables?.setHook(table, hook);
    }
    for (const { table, chains, hooks } of before) {
      const kept = now.find((one) => one.table === table);
      for (const { name } of chains) {
        if (kept?.chains.some((one) => one.name === name) !== true)
          tables?.removeChain(table, name);
      }
      for (const { chain } of hooks) {
        if (kept?.hooks.some((one) => one.chain === chain) !== true)
          tables?.setHook(table, { chain, inserted: [], appended: [] });
      }
    }
  }

  /** Returns the chains and hooks of host endpoints in a family, by table: they need no other chain. */
  guardTables(family: IpFamily, stages: GuardedStages): readonly TableRules[] {
    const options = { family, denyAction: this.#denyAction };
    const chains = this.policies.guardChains(family);
    return renderHostRules({ hooks: hooksWithoutDaemon(stages), blocks: {} }, options)
      .filter(({ hooks }) => hooks.length > 0)
      .map(({ table, chains: hooked, hooks }) => ({
        table,
        hooks,
        chains: [
          ...hooked.filter(({ name }) => !name.startsWith('cali-drop-')),
          ...chains.flatMap((one) => (one.table === table ? [one.chain] : [])),
        ],
      }));
  }

  changePublished(removed: readonly PublishedPort[], added: readonly PublishedPort[]): void {
    for (const [family, ports] of this.#ports) {
      const ofFamily = ({ hostIp }: PublishedPort) => familyOf(hostIp) === family;
      ports.change(removed.filter(ofFamily), added.filter(ofFamily));
    }
  }

  isDispatched(dispatch: Dispatch): boolean {
    return isDispatched(dispatch, (set, member) => this.#sets.holds(set, member));
  }

  cameByPublishedPort(mark: number): boolean {
    return (mark & connectionMarkBits.published) !== 0;
  }
}
