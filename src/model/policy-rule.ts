import { z } from 'zod';
import { net } from './fields.ts';
import { mapOf } from './nulls.ts';

/**
 * One rule of a Profile or policy. All criteria of a rule must hold (AND); the entries of one list are
 * alternatives (OR). Source: Calico v3 API, `Rule` and `EntityRule`.
 */

const protocolNames = ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', 'UDPLite'] as const;
export type ProtocolName = (typeof protocolNames)[number];
export type Protocol = ProtocolName | number;

/** A protocol by number (1–255) or name; names are read in any case and stored as Calico writes them. */
export const protocol = z
  .union([z.int().min(1).max(255), z.string()])
  .transform((value, context) => {
    const known = protocolNames.find((name) => name.toLowerCase() === String(value).toLowerCase());
    if (known !== undefined) return known;
    const number = Number(value);
    if (Number.isInteger(number) && number >= 1 && number <= 255) return number;
    context.addIssue({
      code: 'custom',
      message: `"${value}" is neither a number from 1 to 255 nor one of ${protocolNames.join(', ')}`,
    });
    return z.NEVER;
  });

/** Inclusive range of ports. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** One port, a range `lo:hi`, or the name of a port of the endpoint. */
export const port = z.union([z.int().min(0).max(65535), z.string()]).transform((value, context) => {
  if (typeof value === 'number') return value;
  if (/^\d+$/.test(value) && Number(value) <= 65535) return Number(value);
  const [, first, last] = /^(\d+):(\d+)$/.exec(value) ?? [];
  if (first !== undefined && last !== undefined) {
    if (Number(first) <= Number(last) && Number(last) <= 65535) return value;
  } else if (/^[a-zA-Z0-9_.-]{1,128}$/.test(value) && /[a-zA-Z]/.test(value)) {
    return value;
  }
  context.addIssue({
    code: 'custom',
    message: `"${value}" is not a port (80), a range (8000:8010) or a port name`,
  });
  return z.NEVER;
});

export type Port = z.infer<typeof port>;

/** A numeric port or range as a range; `undefined` for a named port. */
export function portRange(value: Port): PortRange | undefined {
  if (typeof value === 'number') return { first: value, last: value };
  const [, first, last] = /^(\d+):(\d+)$/.exec(value) ?? [];
  return first === undefined ? undefined : { first: Number(first), last: Number(last) };
}

export const icmpMatch = z.looseObject({
  type: z.exactOptional(z.int().min(0).max(254)),
  code: z.exactOptional(z.int().min(0).max(255)),
});

export type IcmpMatch = z.infer<typeof icmpMatch>;

export const entityRule = z.looseObject({
  nets: z.exactOptional(z.array(net)),
  selector: z.exactOptional(z.string()),
  namespaceSelector: z.exactOptional(z.string()),
  services: z.exactOptional(z.unknown()),
  ports: z.exactOptional(z.array(port)),
  notNets: z.exactOptional(z.array(net)),
  notSelector: z.exactOptional(z.string()),
  notPorts: z.exactOptional(z.array(port)),
  serviceAccounts: z.exactOptional(z.unknown()),
});

export type EntityRule = z.infer<typeof entityRule>;

const ruleActions = ['Allow', 'Deny', 'Log', 'Pass'] as const;
export type RuleAction = (typeof ruleActions)[number];

/** Read in any case, as Felix does, and stored as Calico writes it. */
export const ruleAction = z.string().transform((value, context): RuleAction => {
  const known = ruleActions.find((action) => action.toLowerCase() === value.toLowerCase());
  if (known !== undefined) return known;
  context.addIssue({ code: 'custom', message: `must be one of ${ruleActions.join(', ')}` });
  return z.NEVER;
});

export const policyRule = z.looseObject({
  action: ruleAction,
  ipVersion: z.exactOptional(z.union([z.literal(4), z.literal(6)])),
  protocol: z.exactOptional(protocol),
  icmp: z.exactOptional(icmpMatch),
  notProtocol: z.exactOptional(protocol),
  notICMP: z.exactOptional(icmpMatch),
  source: z.exactOptional(entityRule),
  destination: z.exactOptional(entityRule),
  http: z.exactOptional(z.unknown()),
  metadata: z.exactOptional(
    z.looseObject({ annotations: z.exactOptional(mapOf(z.string(), z.string(), '')) }),
  ),
});

export type PolicyRule = z.infer<typeof policyRule>;
