/**
 * Domain names of network sets (`allowedEgressDomains`). A `*` stands for one or more whole components, once per name.
 * Source: Calico Enterprise, NetworkSet.
 */

const component = '[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?';
const legal = new RegExp(`^(\\*|${component})(\\.(\\*|${component}))*\\.?$`, 'i');

/** Returns why a text is not a domain name for a network set; `undefined` if it is. */
export function domainProblem(text: string): string | undefined {
  const wildcards = text.split('.').filter((one) => one === '*').length;
  const isLegal =
    legal.test(text) && text.length <= 253 && wildcards <= 1 && /[a-z0-9_]/i.test(text);
  return isLegal
    ? undefined
    : 'must be a domain name such as api.example.com or *.example.com, with one * at most, as a whole component';
}

/**
 * Finds the owners of domains that match a name, in a time that does not depend on the number of domains. Names are in
 * any case and without a final dot.
 */
export class DomainIndex {
  readonly #domains = new Map<string, readonly string[]>();
  /** Owners by domain without wildcard. */
  readonly #exact = new Map<string, Set<string>>();
  /** Owners by what follows the wildcard, and what precedes it. */
  readonly #wildcards = new Map<string, Map<string, Set<string>>>();

  /** Sets the domains of an owner; none: it is forgotten. */
  set(owner: string, domains: readonly string[]): void {
    for (const domain of this.#domains.get(owner) ?? []) this.#remove(owner, domain);
    if (domains.length === 0) this.#domains.delete(owner);
    else this.#domains.set(owner, domains);
    for (const domain of domains) this.#add(owner, domain);
  }

  /** The number of owners. */
  get size(): number {
    return this.#domains.size;
  }

  /** Reports whether the name is one of the domains itself. */
  hasExactly(name: string): boolean {
    return this.#exact.has(name.toLowerCase());
  }

  ownersOf(name: string): readonly string[] {
    const lower = name.toLowerCase();
    const found = new Set(this.#exact.get(lower));
    if (this.#wildcards.size === 0) return [...found];
    for (const after of endsOf(lower)) {
      for (const [before, owners] of this.#wildcards.get(after) ?? []) {
        const isLongEnough = lower.length > before.length + after.length;
        if (!isLongEnough || !lower.startsWith(before)) continue;
        for (const owner of owners) found.add(owner);
      }
    }
    return [...found];
  }

  #add(owner: string, domain: string): void {
    const [before, after] = partsOf(domain);
    if (after === undefined) {
      const owners = this.#exact.get(before) ?? new Set();
      this.#exact.set(before, owners.add(owner));
      return;
    }
    const byStart = this.#wildcards.get(after) ?? new Map<string, Set<string>>();
    this.#wildcards.set(after, byStart);
    const owners = byStart.get(before) ?? new Set();
    byStart.set(before, owners.add(owner));
  }

  #remove(owner: string, domain: string): void {
    const [before, after] = partsOf(domain);
    const owned = after === undefined ? this.#exact : this.#wildcards.get(after);
    const owners = owned?.get(before);
    owners?.delete(owner);
    if (owners?.size === 0) owned?.delete(before);
    if (after !== undefined && owned?.size === 0) this.#wildcards.delete(after);
  }
}

/** What precedes and follows the wildcard of a domain; nothing follows if it has none. */
function partsOf(domain: string): readonly [string, string | undefined] {
  const [before = '', after] = domain.toLowerCase().replace(/\.$/, '').split('*');
  return [before, after];
}

/** Returns what may follow a wildcard: nothing, or an end of the name from a dot on. */
function* endsOf(name: string): Generator<string> {
  yield '';
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
    yield name.slice(dot);
  }
}
