import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrOf, isHostCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import type { Selected } from '../compile/compiled-rule.ts';
import type { Item } from './inherited-labels.ts';
import { LabelIndex } from './label-index.ts';
import { selectorSet } from '../../ruleset/names.ts';
import type { SetOutput } from '../../ruleset/renderer.ts';
import type { WorkCount } from '../work-count.ts';

/** An item selected by labels, with its networks. */
export interface SelectorMember extends Item {
  /** Without duplicates. */
  readonly nets: readonly Cidr[];
  /** Whether they are addresses of domain names: members only of sets with these. */
  readonly isOfDomains?: boolean;
}

/**
 * One address set per selector in use and family: the addresses of the endpoints of all hosts, and the networks of the
 * network sets, that it matches; and another one for rules in which domain names of network sets count, with the addresses
 * of these as well. Two endpoints with one address are one member until both are gone.
 */
export class SelectorSets {
  readonly #families: readonly IpFamily[];
  readonly #output: SetOutput;
  readonly #work: WorkCount;
  readonly #index: LabelIndex<SelectorMember>;
  readonly #uses = new Map<string, number>();
  /** The selectors whose sets have the addresses of domain names. */
  readonly #withDomains = new Set<string>();
  /** The lengths of networks that are, or were, members of some set. */
  readonly #lengths = new Set<number>();
  /** How many matching endpoints have an address, by set and address. */
  readonly #counts = new Map<string, Map<Cidr, number>>();

  constructor(families: readonly IpFamily[], output: SetOutput, work: WorkCount) {
    this.#families = families;
    this.#output = output;
    this.#work = work;
    this.#index = new LabelIndex(
      {
        onMatch: (id, member) => this.#count(id, this.#netsOf(member, id), 1),
        onMismatch: (id, member) => this.#count(id, this.#netsOf(member, id), -1),
      },
      work,
    );
  }

  /**
   * Sets an item that can be selected, an endpoint or a network set; `undefined`: it is gone. Ids of different kinds
   * differ.
   */
  setMember(id: string, member: SelectorMember | undefined): void {
    if (member === undefined) return this.removeMember(id);
    this.#moveTo(id, member);
    this.#index.setItem(id, member);
  }

  removeMember(id: string): void {
    this.#index.removeItem(id);
  }

  /** Sets the labels that endpoints inherit from a Profile. */
  setProfileLabels(profile: string, labels: Readonly<Record<string, string>> | undefined): void {
    this.#index.setParent(profile, labels);
  }

  /** Adds a use of the selector's sets, until they are released as often; returns the selector's id. */
  use({ id, selector, withDomains }: Selected): string {
    const uses = this.#uses.get(id) ?? 0;
    this.#uses.set(id, uses + 1);
    if (uses > 0) return id;
    if (withDomains) this.#withDomains.add(id);
    for (const family of this.#families) {
      const name = selectorSet(family, id);
      this.#counts.set(name, new Map());
      this.#output.addSet({ name, type: 'net', family });
    }
    this.#index.addSelector(id, selector);
    return id;
  }

  isUsed(id: string): boolean {
    return this.#uses.has(id);
  }

  release(id: string): void {
    const uses = this.#uses.get(id) ?? 0;
    if (uses > 1) {
      this.#uses.set(id, uses - 1);
      return;
    }
    this.#uses.delete(id);
    // The sets are removed as a whole, not member by member.
    for (const family of this.#families) {
      this.#counts.delete(selectorSet(family, id));
      this.#output.removeSet(selectorSet(family, id));
    }
    this.#index.removeSelector(id);
    this.#withDomains.delete(id);
  }

  /** Reports whether an address, or a network that contains it, is a member of a selector's set. */
  contains(id: string, network: Cidr): boolean {
    const counts = this.#counts.get(selectorSet(cidrFamily(network), id));
    if (counts === undefined) return false;
    if (counts.has(network)) return true;
    const { address, prefixLength } = splitCidr(network);
    return [...this.#lengths].some(
      (length) => length < prefixLength && counts.has(cidrOf(address, length)),
    );
  }

  /** Reports whether the networks of a member are in a selector's sets. */
  hasMember(selector: string, id: string): boolean {
    const member = this.#index.item(id);
    if (member === undefined || !this.#has(selector, member)) return false;
    return this.#index.matchedBy(id).has(selector);
  }

  /** Returns the networks of a member, as far as a selector's sets have them. */
  #netsOf(id: string, selector: string): readonly Cidr[] {
    const member = this.#index.item(id);
    if (member === undefined || !this.#has(selector, member)) return [];
    return member.nets;
  }

  #has(selector: string, { isOfDomains = false }: SelectorMember): boolean {
    return !isOfDomains || this.#withDomains.has(selector);
  }

  /** Moves the matches of a member to its new networks, before its labels change. */
  #moveTo(id: string, member: SelectorMember): void {
    const before = this.#index.item(id)?.nets ?? [];
    const { nets } = member;
    if (before === nets || this.#index.matchedBy(id).size === 0) return;
    const [old, now] = [new Set(before), new Set(nets)];
    const added = nets.filter((network) => !old.has(network));
    const gone = before.filter((network) => !now.has(network));
    if (added.length + gone.length === 0) return;
    for (const selector of this.#index.matchedBy(id)) {
      if (!this.#has(selector, member)) continue;
      this.#count(selector, added, 1);
      this.#count(selector, gone, -1);
    }
  }

  #count(id: string, networks: readonly Cidr[], change: 1 | -1): void {
    for (const network of networks) {
      const family = cidrFamily(network);
      if (!this.#families.includes(family)) continue;
      const name = selectorSet(family, id);
      const counts = this.#counts.get(name);
      if (counts === undefined) continue;
      const before = counts.get(network) ?? 0;
      const now = before + change;
      if (now <= 0) counts.delete(network);
      else counts.set(network, now);
      if (before > 0 === now > 0) continue;
      this.#work.membersEmitted++;
      if (now > 0 && !isHostCidr(network)) this.#lengths.add(splitCidr(network).prefixLength);
      if (now > 0) this.#output.addMember(name, network);
      else this.#output.removeMember(name, network);
    }
  }
}
