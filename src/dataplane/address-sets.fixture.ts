import assert from 'node:assert/strict';
import type { IpsetSpec } from '../render/iptables/ipset.ts';
import type { SetOperations } from './address-sets.ts';
import { refused } from './netlink/errno.ts';
import { kernelTypeName, type KernelSet } from './netlink/ipset.ts';

interface Held {
  readonly form: Omit<KernelSet, 'size'>;
  readonly members: Set<string>;
}

/** Kernel sets in memory, which refuse some members. */
export class FakeSets implements SetOperations {
  readonly sets = new Map<string, Held>();
  readonly refuses = new Set<string>();
  requests = 0;
  /** Called for everything created and removed. */
  onChange: (what: string) => void = () => undefined;

  create = ({ name, type, family, countsPackets = false }: IpsetSpec): void => {
    if (this.sets.has(name)) throw refused('create', 17);
    const form = { name, typeName: kernelTypeName(type), family, countsPackets };
    this.sets.set(name, { form, members: new Set() });
    this.onChange(`make set ${name}`);
  };
  destroy = (name: string): void => {
    if (this.sets.delete(name)) this.onChange(`remove set ${name}`);
  };
  swap = (): void => assert.fail('no rule names a set');
  add = ({ name }: IpsetSpec, members: readonly string[]): void => {
    this.requests++;
    const held = this.#held(name);
    for (const member of members) {
      if (member.endsWith('/0') || this.refuses.has(member)) throw refused('add', 4104);
      held.members.add(member);
      this.onChange(`add ${member} to ${name}`);
    }
  };
  remove = ({ name }: IpsetSpec, members: readonly string[]): void => {
    const held = this.#held(name);
    for (const member of members) {
      if (this.refuses.has(member)) throw refused('remove', 12);
      if (held.members.delete(member)) this.onChange(`remove ${member} from ${name}`);
    }
  };
  list = (): readonly KernelSet[] =>
    [...this.sets.values()].map(({ form, members }) => ({ ...form, size: members.size }));
  members = (name: string) =>
    [...(this.sets.get(name)?.members ?? [])].map((member) => ({ member, packets: 0n, bytes: 0n }));

  #held(name: string): Held {
    const held = this.sets.get(name);
    if (held === undefined) throw refused('change', 2);
    return held;
  }
}
