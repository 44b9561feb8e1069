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

/** Reports whether a name, in any case and without a final dot, matches a domain of a network set. */
export function matchesDomain(domain: string, name: string): boolean {
  const [before = '', after] = domain.toLowerCase().replace(/\.$/, '').split('*');
  const lower = name.toLowerCase();
  if (after === undefined) return lower === before;
  return (
    lower.length > before.length + after.length && lower.startsWith(before) && lower.endsWith(after)
  );
}
