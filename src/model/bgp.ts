import { z } from 'zod';
import { tryParseAddress } from '../ip/address.ts';

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

/** A reference to a Kubernetes secret; kept unchanged. */
export const password = z.looseObject({ secretKeyRef: z.exactOptional(z.unknown()) });

/** Reports whether a text is a community, `aa:nn` of 16 bits each or `aa:nn:mm` of 32 bits each. */
export function isCommunity(text: string): boolean {
  const parts = text.split(':');
  const most = parts.length === 2 ? 2 ** 16 : 2 ** 32;
  const isPart = (part: string) => /^\d+$/.test(part) && Number(part) < most;
  return (parts.length === 2 || parts.length === 3) && parts.every(isPart);
}

/** Reports whether a text is an address, optionally with a port: `192.0.2.1`, `192.0.2.1:179`, `[2001:db8::1]:179`. */
export function isPeerAddress(text: string): boolean {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const address = bracketed ?? plain ?? text;
  const hasPort = port === undefined || (Number(port) > 0 && Number(port) < 65_536);
  return hasPort && tryParseAddress(address) !== undefined;
}
