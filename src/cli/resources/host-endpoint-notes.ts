import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { tryParseAddress } from '../../ip/address.ts';
import {
  hostCoverage,
  interfacesOf,
  isCoverable,
  type AddressedInterface,
} from '../../profiles/host-coverage.ts';
import type { HostEndpoint } from '../../model/kinds/host-endpoint.ts';
import type { Resource } from '../../model/kinds/index.ts';
import { shownName } from '../../model/policy.ts';
import { anyInterface } from '../../ruleset/host-endpoint.ts';

/** The host of the command, and the stored host endpoints. */
export interface HostNotesContext {
  readonly node: string;
  readonly stored: ReadonlyMap<string, HostEndpoint>;
  readonly interfaces: () => readonly AddressedInterface[];
}

/**
 * Returns a sentence for each applied host endpoint, with the interfaces that it covers, and for each policy without
 * connection tracking.
 */
export function hostEndpointNotes(
  resources: readonly Resource[],
  context: HostNotesContext,
): readonly string[] {
  return resources.flatMap((resource): readonly string[] => {
    if (resource.kind === 'HostEndpoint') return [coverageNote(resource, context)];
    if (resource.kind !== 'GlobalNetworkPolicy' || resource.spec.doNotTrack !== true) return [];
    const name = `GlobalNetworkPolicy ${shownName(resource)}`;
    return [
      `${name}: connections that it allows are not tracked: their replies need a rule of their own, and published ports do not work for them`,
    ];
  });
}

function coverageNote({ metadata, spec }: HostEndpoint, context: HostNotesContext): string {
  const { node = '', interfaceName = '', expectedIPs = [] } = spec;
  const name = `HostEndpoint ${metadata.name}`;
  if (node !== context.node) {
    const where =
      interfaceName === anyInterface
        ? 'all interfaces without an endpoint of their own'
        : interfaceName === ''
          ? `the interfaces with ${expectedIPs.join(', ')}`
          : `interface ${interfaceName}`;
    return `${name} covers ${where} of node ${node}`;
  }
  const local = new Map([...context.stored].filter(([, other]) => other.spec.node === node));
  const interfaces = context.interfaces();
  const covered = interfacesOf(metadata.name, hostCoverage(local, interfaces), interfaces);
  const later = interfaceName === anyInterface ? ', and interfaces created later' : '';
  if (covered.length > 0) return `${name} covers ${covered.join(', ')}${later}`;
  const isAbsent =
    isCoverable(interfaceName) && !interfaces.some((one) => one.name === interfaceName);
  const why =
    isAbsent && interfaceName !== anyInterface ? `: ${interfaceName} does not exist yet` : '';
  return `${name} covers no interface of this host${later === '' ? why : later}`;
}

/** Returns the interfaces of the host of this process. */
export function ownInterfaces(): readonly AddressedInterface[] {
  const addresses = networkInterfaces();
  return readdirSync('/sys/class/net').map((name) => ({
    name,
    addresses: (addresses[name] ?? []).flatMap(({ address }) => tryParseAddress(address) ?? []),
  }));
}
