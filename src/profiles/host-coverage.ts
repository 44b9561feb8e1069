import { tryParseAddress, type IpAddress } from '../ip/address.ts';
import type { HostEndpoint } from '../model/kinds/host-endpoint.ts';
import { anyInterface } from '../ruleset/host-endpoint.ts';
import { isWorkloadInterface } from '../ruleset/names.ts';

/** An interface of a host with its addresses. */
export interface AddressedInterface {
  readonly name: string;
  readonly addresses: readonly IpAddress[];
}

/** The host endpoints of the interfaces of a host, by name; `*` stands for all others. */
export interface HostCoverage {
  readonly byName: ReadonlyMap<string, string>;
  readonly ofOthers: string | undefined;
}

/** Reports whether a host endpoint can cover an interface: containers' and `lo` never have one. */
export function isCoverable(name: string): boolean {
  return name !== 'lo' && name !== '' && !isWorkloadInterface(name);
}

/**
 * Returns the host endpoint of each interface: by its name, even before it exists, or by one of its addresses. If several
 * host endpoints cover one, the first by name counts; `*` covers what no other one does. Source:
 * felix/dataplane/linux/endpoint_mgr.go.
 */
export function hostCoverage(
  endpoints: ReadonlyMap<string, HostEndpoint>,
  interfaces: readonly AddressedInterface[],
): HostCoverage {
  const byName = new Map<string, string>();
  let ofOthers: string | undefined;
  for (const [id, { spec }] of [...endpoints].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const { interfaceName = '', expectedIPs = [] } = spec;
    if (interfaceName === anyInterface) {
      ofOthers ??= id;
      continue;
    }
    const expected = new Set(expectedIPs.flatMap((text) => tryParseAddress(text) ?? []));
    const names =
      interfaceName === ''
        ? interfaces
            .filter(({ addresses }) => addresses.some((address) => expected.has(address)))
            .map(({ name }) => name)
        : [interfaceName];
    for (const name of names) if (isCoverable(name) && !byName.has(name)) byName.set(name, id);
  }
  return { byName, ofOthers };
}

/** Returns the present interfaces that a host endpoint covers. */
export function interfacesOf(
  id: string,
  { byName, ofOthers }: HostCoverage,
  interfaces: readonly AddressedInterface[],
): readonly string[] {
  return interfaces
    .map(({ name }) => name)
    .filter((name) => isCoverable(name) && (byName.get(name) ?? ofOthers) === id)
    .toSorted();
}
