import { z } from 'zod';
import { tryParseAddress, type IpAddress } from '../ip/address.ts';
import type { Problem } from './resource-type.ts';

/** Common fields of the BGP kinds and Node. Source: Calico v3 API; api/pkg/lib/numorstring. */

/** An AS number; two of 16 bits such as `"64512.1"` are combined into one, as Calico stores it. */
export const asNumber = z.union([z.number(), z.string()]).transform((given, context) => {
  const parts = String(given).split('.').map(Number);
  const [high = 0, low] = parts;
  const isPart = (part: number, most: number) => Number.isInteger(part) && part >= 0 && part < most;
  if (low === undefined && isPart(high, 2 ** 32)) return high;
  const isDotted = typeof given === 'string' && parts.length === 2;
  if (isDotted && low !== undefined && isPart(high, 65_536) && isPart(low, 65_536)) {
    return high * 65_536 + low;
  }
  context.addIssue({
    code: 'custom',
    message: `"${given}" is not an AS number such as 64512, or "64512.1" in quotes`,
  });
  return z.NEVER;
});

/** A reference to a Kubernetes Secret; without Kubernetes its name and key are those of a file on each node. */
export const password = z.looseObject({ secretKeyRef: z.exactOptional(z.unknown()) });

/** A password by name; its text is not in the datastore. */
export interface PasswordReference {
  readonly name: string;
  readonly key: string;
}

const part = z.string().regex(/^[A-Za-z0-9_][-A-Za-z0-9_.]*$/);
const secretKeyRef = z.looseObject({ name: part, key: part });

/** Returns the name and key of a reference; `undefined` if it lacks one, or if they are no file names. */
export function passwordReference({
  secretKeyRef: reference,
}: z.infer<typeof password>): PasswordReference | undefined {
  const parsed = secretKeyRef.safeParse(reference);
  return parsed.success ? { name: parsed.data.name, key: parsed.data.key } : undefined;
}

/** A community of two numbers of 16 bits (RFC 1997), or a large one of three of 32 bits (RFC 8092). */
export type Community = readonly [number, number] | readonly [number, number, number];

/** Returns a community `aa:nn` or `aa:nn:mm`; `undefined` if the text is none. */
export function parseCommunity(text: string): Community | undefined {
  const parts = text.split(':');
  const most = parts.length === 2 ? 2 ** 16 : 2 ** 32;
  if (!parts.every((part) => /^\d+$/.test(part) && Number(part) < most)) return undefined;
  const [first, second, third, ...more] = parts.map(Number);
  if (first === undefined || second === undefined || more.length > 0) return undefined;
  return third === undefined ? [first, second] : [first, second, third];
}

export function isCommunity(text: string): boolean {
  return parseCommunity(text) !== undefined;
}

/** Returns why one of some texts is no community; `undefined` if all are. */
export function communityProblem(texts: readonly string[]): string | undefined {
  const wrong = texts.find((text) => !isCommunity(text));
  return wrong === undefined ? undefined : `"${wrong}" is not a community aa:nn or aa:nn:mm`;
}

/** Returns the seconds of a duration as Go writes it, such as `90s`, `1m30s` or `1h`; `undefined` if it is none. */
export function parseDurationSeconds(text: string): number | undefined {
  const [all, hours = '0', minutes = '0', seconds = '0'] =
    /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text) ?? [];
  if (all === undefined || all === '') return undefined;
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
}

/** What BIRD, and BGP itself, accept; the timers are those of a hold time of 240 s. Source: RFC 4724; BIRD 2 user's guide. */
export const bgpLimits = {
  restartSeconds: [0, 4095],
  keepaliveSeconds: [1, 240],
  allowedLocalAs: [0, 255],
  ttlHops: [1, 255],
  maxPrefixes: [1, 2 ** 32 - 1],
  /** Of metrics, as Calico. */
  priority: [1, 2_147_483_646],
} as const;

/** Returns the problems of fields of a spec; the values are the reasons, `undefined` for fields without a problem. */
export function specProblems(
  whys: Readonly<Record<string, string | undefined>>,
): readonly Problem[] {
  return Object.entries(whys).flatMap(([field, why]) =>
    why === undefined ? [] : [{ field: `spec.${field}`, why }],
  );
}

/** Returns why a number is none between limits; `undefined` if it is, or is missing. */
export function rangeProblem(
  value: number | undefined,
  [least, greatest]: readonly [number, number],
): string | undefined {
  const isIn =
    value === undefined || (Number.isInteger(value) && value >= least && value <= greatest);
  return isIn ? undefined : `must be an integer from ${least} to ${greatest}`;
}

/** Returns why a text is none of some words; `undefined` if it is, or is missing or empty. */
export function wordProblem(
  text: string | undefined,
  words: readonly string[],
): string | undefined {
  if (text === undefined || text === '' || words.includes(text)) return undefined;
  return `"${text}" is none of ${words.join(', ')}`;
}

/** Returns why a text is no duration between limits in seconds; `undefined` if it is, or is missing or empty. */
export function durationProblem(
  text: string | undefined,
  [least, greatest]: readonly [number, number],
): string | undefined {
  if (text === undefined || text === '') return undefined;
  const seconds = parseDurationSeconds(text);
  if (seconds === undefined) return `"${text}" is not a duration such as 120s`;
  const isIn = Math.ceil(seconds) >= least && seconds <= greatest;
  return isIn ? undefined : `must be from ${least}s to ${greatest}s`;
}

/** The AS number of nodes without one. The first of those for private use. Source: RFC 6996. */
export const defaultAsNumber = 64_512;

/** Returns an address, optionally with a port: `192.0.2.1`, `192.0.2.1:179`, `[2001:db8::1]:179`. */
export function parsePeerAddress(
  text: string,
): { readonly address: IpAddress; readonly port: number | undefined } | undefined {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const address = tryParseAddress(bracketed ?? plain ?? text);
  const isPort = port === undefined || (Number(port) > 0 && Number(port) < 65_536);
  if (!isPort || address === undefined) return undefined;
  return { address, port: port === undefined ? undefined : Number(port) };
}

export function isPeerAddress(text: string): boolean {
  return parsePeerAddress(text) !== undefined;
}
