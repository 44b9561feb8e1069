import fc from 'fast-check';
import { policyRule, type PolicyRule } from '../../src/model/policy-rule.ts';

/**
 * The whole grammar of policy rules: the values of each field, alone and combined with others. They are values
 * that iptables renders in different ways: one and many, negated, of the other family, at the ends of their ranges.
 */

const nets4 = ['10.0.0.0/8', '10.1.0.0/16', '10.1.2.3/32', '0.0.0.0/0', '192.0.2.0/24'];
const nets6 = ['fd00::/8', 'fd00:1::/32', 'fd00:1::1/128', '::/0', '::ffff:192.0.2.0/120'];
const net = fc.constantFrom(...nets4, ...nets6);
/** One network of each family, so that the rule concerns both. */
const oneOfEach = fc.tuple(fc.constantFrom(...nets4), fc.constantFrom(...nets6));
const nets = fc.oneof(
  oneOfEach,
  fc.uniqueArray(net, { minLength: 1, maxLength: 6 }),
  fc.tuple(net),
);

const port = fc.oneof(
  fc.constantFrom<number | string>(0, 80, 65535, '80', '0:65535', '8000:8010', '443:443'),
  fc.integer({ min: 0, max: 65535 }),
);
const scattered = (count: number) => Array.from({ length: count }, (_, index) => 3 * index);
/** Names of ports that some endpoint has, or none. */
const portName = fc.constantFrom('http', 'dns', 'of-nobody');
const ports = fc.oneof(
  fc.array(port, { minLength: 1, maxLength: 3 }),
  fc.array(fc.oneof(portName, port), { minLength: 1, maxLength: 4 }),
  fc.tuple(portName),
  fc.array(port, { minLength: 7, maxLength: 16 }),
  fc.constantFrom(scattered(15), scattered(16), scattered(1000)),
);

const selector = fc.constantFrom('all()', 'web == ""', 'has(a) && b in {"x", "y"}', '!has(a)');
const entity = { nets, notNets: nets, selector, notSelector: selector, ports, notPorts: ports };

const icmp = fc.oneof(
  fc.record({ type: fc.constantFrom(0, 3, 8, 128, 254) }),
  fc.record({ type: fc.constantFrom(0, 3, 8, 254), code: fc.constantFrom(0, 4, 255) }),
  fc.constant({}),
);

const protocolNames = ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite'] as const;
const protocolNumbers = [1, 2, 4, 6, 17, 41, 44, 47, 50, 58, 59, 132, 136, 255] as const;
const protocol = fc.constantFrom<string | number>(...protocolNames, ...protocolNumbers);
const withPorts = fc.constantFrom<string | number>('TCP', 'UDP', 'SCTP', 'UDPLite', 6, 17);
const withTypes = fc.constantFrom<string | number>('ICMP', 'ICMPv6', 1, 58);

/** Values by field; a key `source.nets` is a field of a side. */
const values: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  ipVersion: fc.constantFrom(4, 6),
  protocol,
  notProtocol: protocol,
  icmp,
  notICMP: icmp,
  metadata: fc.record({ annotations: fc.dictionary(fc.string(), fc.string(), { maxKeys: 2 }) }),
  ...Object.fromEntries(
    ['source', 'destination'].flatMap((side) =>
      Object.entries(entity).map(([field, of]) => [`${side}.${field}`, of] as const),
    ),
  ),
};

/** Every single, pair and triple of fields that may stand together: no protocol has both ports and types. */
export function combinationsOfFields(): readonly (readonly string[])[] {
  const fields = Object.keys(values);
  return fields
    .flatMap((a, i) => [
      [a],
      ...fields
        .slice(i + 1)
        .flatMap((b, j) => [[a, b], ...fields.slice(i + j + 2).map((c) => [a, b, c])]),
    ])
    .filter((combination) => !(combination.some(isOfPorts) && combination.some(isOfTypes)));
}

const isOfPorts = (field: string) => /ports/i.test(field);
const isOfTypes = (field: string) => /icmp/i.test(field);

/** Rules that have these fields, and the protocol that they need if it is none of them. */
export function rulesWith(fields: readonly string[]): fc.Arbitrary<PolicyRule> {
  const needed = fields.some(isOfPorts)
    ? withPorts
    : fields.some(isOfTypes)
      ? withTypes
      : fc.constant(undefined);
  return fc
    .record({
      action: fc.constantFrom('Allow', 'Deny', 'Log', 'Pass'),
      said: fc.record(Object.fromEntries(fields.map((field) => [field, values[field] ?? net]))),
      protocol: needed,
    })
    .map(({ action, said, protocol }) => {
      const rule: Record<string, unknown> = { action };
      const sides: Record<string, Record<string, unknown>> = {};
      for (const [field, value] of Object.entries(said)) {
        const [side = '', ofSide] = field.split('.');
        if (ofSide === undefined) rule[field] = value;
        else sides[side] = { ...sides[side], [ofSide]: value };
      }
      const needs = protocol === undefined ? {} : { protocol };
      return policyRule.parse({ ...rule, ...sides, ...needs });
    });
}
