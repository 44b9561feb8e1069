import { CalicoError } from '../../errors/error.ts';
import {
  port,
  protocol,
  type PolicyRule,
  type Port,
  type Protocol,
} from '../../model/policy-rule.ts';

/** What rules match besides their ends: a protocol with ports or an ICMP type. */
export type Traffic = Pick<PolicyRule, 'protocol' | 'icmp'> & { readonly ports?: Port[] };

/** The options of a command that select traffic, as typed. */
export interface TrafficOptions {
  readonly port?: readonly string[];
  readonly proto?: readonly string[];
  readonly icmp?: string;
}

/**
 * Parses `--port`, `--proto` and `--icmp` to one entry per protocol; all traffic is one entry without criteria.
 * Throws `cli/bad-argument`.
 */
export function parseTraffic({
  port: ports = [],
  proto = [],
  icmp,
}: TrafficOptions): readonly Traffic[] {
  const protocols = list(proto).map(parseProtocol);
  if (icmp !== undefined) return [parseIcmp(icmp, { protocols, hasPorts: ports.length > 0 })];
  const given = list(ports).map((text) => parsePort(`--port ${text}`, text));
  if (given.length === 0) {
    return protocols.length === 0 ? [{}] : protocols.map((one) => ({ protocol: one }));
  }
  const named = given.find((one) => one.protocol !== undefined);
  if (named !== undefined && protocols.length > 0) {
    throw bad(`--port ${named.text}`, 'has a protocol of its own; leave out --proto');
  }
  const wrong = protocols.find((one) => !withPorts.has(one));
  if (wrong !== undefined) throw bad(`--proto ${wrong}`, 'has no ports; must be tcp, udp or sctp');
  const defaults = protocols.length === 0 ? ['TCP' as const] : protocols;
  const byProtocol = new Map<Protocol, Port[]>();
  for (const one of given) {
    for (const of of one.protocol === undefined ? defaults : [one.protocol]) {
      byProtocol.set(of, [...(byProtocol.get(of) ?? []), one.port]);
    }
  }
  return [...byProtocol].map(([of, of_]) => ({ protocol: of, ports: [...new Set(of_)] }));
}

/** Returns traffic as options that `parseTraffic` accepts. */
export function trafficWords(traffic: readonly Traffic[]): readonly string[] {
  const words = traffic.flatMap(({ protocol: of }) => (of === undefined ? [] : [wordOf(of)]));
  const ports = traffic.flatMap(({ protocol: of, ports: some = [] }) =>
    of === undefined ? [] : some.map((one) => `${one}/${wordOf(of)}`),
  );
  if (ports.length > 0) return ['--port', ports.join(',')];
  const icmp = traffic.find((one) => one.icmp !== undefined)?.icmp;
  return [
    ...(words.length === 0 ? [] : ['--proto', words.join(',')]),
    ...(icmp === undefined ? [] : ['--icmp', [icmp.type, icmp.code].filter(isGiven).join('/')]),
  ];
}

/** Returns traffic as part of the name of a policy: `tcp-80-443`, `icmp-8`; `''` for all. */
export function trafficName({ protocol: of, ports = [], icmp }: Traffic): string {
  if (of === undefined) return '';
  return [wordOf(of), ...ports, icmp?.type, icmp?.code]
    .filter(isGiven)
    .join('-')
    .replaceAll(':', '-');
}

function wordOf(of: Protocol): string {
  return String(of).toLowerCase();
}

function isGiven(one: string | number | undefined): one is string | number {
  return one !== undefined;
}

const withPorts: ReadonlySet<Protocol> = new Set<Protocol>(['TCP', 'UDP', 'SCTP', 6, 17, 132]);

function list(values: readonly string[]): readonly string[] {
  return values.flatMap((value) => value.split(','));
}

function parseProtocol(text: string): Protocol {
  const parsed = protocol.safeParse(text);
  if (parsed.success) return parsed.data;
  throw bad(
    `--proto ${text}`,
    'must be tcp, udp, sctp, udplite, icmp, icmpv6, or a number from 1 to 255',
  );
}

/** Parses `80`, `8000:8010`, `8000-8010` or `http`, each with `/tcp`, `/udp` or `/sctp` if given. */
export function parsePort(
  what: string,
  text: string,
): {
  readonly text: string;
  readonly port: Port;
  readonly protocol: Protocol | undefined;
} {
  const [plain = '', word, more] = text.split('/');
  const range = plain.replace(/^(\d+)-(\d+)$/, '$1:$2');
  const parsed = port.safeParse(range);
  const why =
    'must be a port (80), a range (8000-8010) or the name of a port, and may end with /tcp, /udp or /sctp';
  if (!parsed.success || more !== undefined || /^0+(:|$)/.test(range)) throw bad(what, why);
  if (word === undefined) return { text, port: parsed.data, protocol: undefined };
  const of = protocol.safeParse(word);
  if (!of.success || !withPorts.has(of.data)) throw bad(what, why);
  return { text, port: parsed.data, protocol: of.data };
}

/** Parses a number, as orders of policies are. Throws `cli/bad-argument`. */
export function parseNumber(what: string, text: string, why = 'must be a number'): number {
  if (/^-?\d{1,9}(\.\d{1,9})?$/.test(text)) return Number(text);
  throw bad(what, why);
}

function parseIcmp(
  text: string,
  given: { readonly protocols: readonly Protocol[]; readonly hasPorts: boolean },
): Traffic {
  const what = `--icmp ${text}`;
  const [, type = '', code] = /^(\d{1,3})(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  if (type === '' || Number(type) > 254 || Number(code ?? 0) > 255) {
    throw bad(
      what,
      'must be TYPE or TYPE/CODE, such as 8 (echo request) or 3/4; the type is at most 254',
    );
  }
  if (given.hasPorts) throw bad(what, 'cannot be combined with --port: ICMP has no ports');
  const [of = 'ICMP', another] = given.protocols;
  if (another !== undefined || !icmpProtocols.has(of)) {
    throw bad(what, 'needs --proto icmp (the default) or icmpv6');
  }
  const icmp = { type: Number(type), ...(code === undefined ? {} : { code: Number(code) }) };
  return { protocol: of, icmp };
}

const icmpProtocols: ReadonlySet<Protocol> = new Set<Protocol>(['ICMP', 'ICMPv6', 1, 58]);

function bad(what: string, why: string): CalicoError {
  return new CalicoError('cli/bad-argument', { what, why });
}
