import { constants } from 'node:os';
import { CalicoError } from '../../errors/error.ts';

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** Errors of ipset beyond the system's own numbers. Source: linux/netfilter/ipset/ip_set.h. */
const ipsetErrors: Readonly<Record<number, string>> = {
  4097: 'IPSET_ERR_PROTOCOL',
  4098: 'IPSET_ERR_FIND_TYPE',
  4099: 'IPSET_ERR_MAX_SETS',
  4100: 'IPSET_ERR_BUSY',
  4101: 'IPSET_ERR_EXIST_SETNAME2',
  4102: 'IPSET_ERR_TYPE_MISMATCH',
  4103: 'IPSET_ERR_EXIST',
  4104: 'IPSET_ERR_INVALID_CIDR',
  4108: 'IPSET_ERR_REFERENCED',
  4352: 'IPSET_ERR_HASH_FULL',
};

/** `EEXIST` for 17, and so on. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? ipsetErrors[errno] ?? `errno ${errno}`;
}

/** The error of a refused request: what was asked, the error's name, and the kernel's own words if it has any. */
export function refused(what: string, errno: number, why = ''): CalicoError<'kernel/refused'> {
  return new CalicoError('kernel/refused', { what, errno: errnoName(errno), why });
}
