import { CalicoError } from '../errors/error.ts';

/** Numbers of capabilities in linux/capability.h. */
const netAdmin = 12n;
const netRaw = 13n;

/**
 * Throws `cli/no-network-root` unless this process may change the network. `status` is the text of
 * /proc/self/status; its line CapEff has the effective capabilities.
 */
export function requireNetworkRoot(status: string): void {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const missing = [
    ...((effective >> netAdmin) & 1n ? [] : ['CAP_NET_ADMIN']),
    ...((effective >> netRaw) & 1n ? [] : ['CAP_NET_RAW']),
  ];
  if (missing.length === 0) return;
  const why = `missing ${missing.join(' and ')}`;
  throw new CalicoError('cli/no-network-root', { why });
}
